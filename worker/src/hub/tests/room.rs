//! What a shard remembers of its channels is bounded.

use super::*;
use crate::hub::room::RINGS_BYTES_MAX;

/// So many of them are more than a shard remembers: each has as much as fits its ring.
const CHANNELS: u64 = 600;

const PUBLICATION_BYTES: usize = 30_000;

fn since(offset: u64) -> Subscribing {
    let recover = Recover {
        offset,
        epoch: Some(Epoch(1)),
        kind: RecoveryKind::Stream,
        limit: 100,
    };
    Subscribing {
        delivery: Delivery::default(),
        recover: Some(recover),
    }
}

impl Bench {
    fn publish_much(&mut self, token: u64, offset: u64) {
        let mut fanout = Fanout::default();
        let stamp = Stamp {
            position: position(1, offset),
            previous: offset - 1,
        };
        let payload = payload(&[b'x'; PUBLICATION_BYTES]);
        let mut scratch = BytesMut::new();
        self.hub.receive(
            token,
            payload,
            Some(stamp),
            &mut scratch,
            &mut fanout,
            self.now,
        );
        self.hub.flush(&mut fanout, self.now);
    }

    /// Whether the shard remembers all that was published in the channel.
    fn remembers(&mut self, name: &str, id: u32) -> bool {
        let member = Listener::new(id, Format::Protobuf);
        let join = self.hub.join(&channel(name), &member, since(0), self.now);
        self.hub.leave(&channel(name), &member, self.now);
        matches!(join, Join::Joined(_))
    }
}

#[test]
fn a_shard_forgets_first_what_nobody_has_asked_for() {
    let mut bench = Bench::new();
    let ann = Listener::new(1, Format::Json);
    let tokens: Vec<u64> = (0..CHANNELS)
        .map(|number| {
            let token = bench.ask(&format!("c{number}"), &ann);
            bench.hub.opened(token, Ok(Some(history(1, 0))), bench.now);
            token
        })
        .collect();
    for offset in [1, 2] {
        for (number, token) in tokens.iter().enumerate() {
            if offset == 2 && number == 3 {
                assert!(bench.remembers("c3", 2));
            }
            bench.publish_much(*token, offset);
            assert!(bench.hub.ring_bytes.get() <= RINGS_BYTES_MAX);
        }
    }
    let remembered: Vec<bool> = (0..CHANNELS)
        .map(|number| bench.remembers(&format!("c{number}"), 2))
        .collect();
    assert!(
        remembered[3] && remembered[500],
        "asked for, or not its turn yet"
    );
    assert!(!remembered[2] && !remembered[4]);
    for token in tokens {
        bench.publish_much(token, 3);
        assert!(
            bench.hub.ring_bytes.get() <= RINGS_BYTES_MAX,
            "whatever was asked for"
        );
    }
    for number in 0..CHANNELS {
        bench
            .hub
            .leave(&channel(&format!("c{number}")), &ann, bench.now);
    }
    bench.hub.sweep(bench.now + LINGER);
    assert_eq!(bench.hub.ring_bytes.get(), 0);
}
