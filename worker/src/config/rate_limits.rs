//! How often clients may do what, made from what was written under `client.rate_limits`.

use std::num::NonZeroU32;
use std::time::Duration;

use flotilla_shared::config::Problems;

use super::raw::{RawClient, RawRate, RawRateLimits};
use crate::bucket::Rate;
use crate::rates::{Metered, RateLimits};

/// Makes sense of `client.rate_limits`; notes everything that makes none.
pub(super) fn rate_limits(client: &RawClient, problems: &mut Problems) -> RateLimits {
    RateLimits::new(|metered| rate(client, metered, problems))
}

fn rate(client: &RawClient, metered: Metered, problems: &mut Problems) -> Option<Rate> {
    let key = |name| format!("client.rate_limits.{}.{name}", metered.label());
    let RawRate { per_second, burst } = written(&client.rate_limits, metered);
    let Some(per_second) = NonZeroU32::new(per_second) else {
        if burst > 0 {
            problems.add(&key("burst"), "means nothing without per_second");
        }
        return None;
    };
    let (least, why) = least_burst(client, metered);
    if (1..least.get()).contains(&burst) {
        problems.add(
            &key("burst"),
            format!("must not be less than client.{why}, which is {least}"),
        );
    }
    let burst = NonZeroU32::new(burst).unwrap_or(per_second.max(least));
    let rate = Rate { per_second, burst };
    if metered == Metered::Bytes && delays_pongs(client, rate) {
        problems.add(
            &key("per_second"),
            "is so little that a message of client.message_size_limit would keep the answer to a ping back for longer \
             than client.pong_timeout",
        );
    }
    Some(rate)
}

fn written(limits: &RawRateLimits, metered: Metered) -> RawRate {
    match metered {
        Metered::Messages => limits.messages,
        Metered::Bytes => limits.bytes,
        Metered::Subscribe => limits.subscribe,
        Metered::Publish => limits.publish,
        Metered::Presence => limits.presence,
        Metered::History => limits.history,
        Metered::Rpc => limits.rpc,
        Metered::Refresh => limits.refresh,
        Metered::Errors => limits.errors,
    }
}

/// What has to be possible at once, and the option that says so.
fn least_burst(client: &RawClient, metered: Metered) -> (NonZeroU32, &'static str) {
    let (least, why) = match metered {
        Metered::Bytes => (client.message_size_limit, "message_size_limit"),
        // An SDK that has connected subscribes to all its channels at once, each perhaps in a message of its own.
        Metered::Messages | Metered::Subscribe | Metered::Refresh | Metered::Errors => {
            (client.channel_limit, "channel_limit")
        }
        Metered::Publish | Metered::Presence | Metered::History | Metered::Rpc => (1, ""),
    };
    let least = u32::try_from(least).unwrap_or(u32::MAX);
    (NonZeroU32::new(least).unwrap_or(NonZeroU32::MIN), why)
}

/// Whether the largest message takes longer to be paid for than a client has to answer a ping.
fn delays_pongs(client: &RawClient, rate: Rate) -> bool {
    let seconds = client.message_size_limit as f64 / f64::from(rate.per_second.get());
    !client.ping_interval.is_zero()
        && Duration::try_from_secs_f64(seconds).is_ok_and(|delay| delay > client.pong_timeout)
}

#[cfg(test)]
mod tests {
    use flotilla_shared::config::Problems;

    use super::*;
    use crate::config::{Config, RawConfig};

    const NONE: RawRate = RawRate {
        per_second: 0,
        burst: 0,
    };

    /// The keys that are complained about.
    fn problems(change: impl FnOnce(&mut RawRateLimits)) -> Vec<String> {
        let mut raw = RawConfig::default();
        change(&mut raw.client.rate_limits);
        let mut problems = Problems::default();
        let config = Config::resolve(&raw, &mut problems);
        match problems.finish(config) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.0.into_iter().map(|error| error.key).collect(),
        }
    }

    fn burst(metered: Metered, per_second: u32, burst: u32) -> u32 {
        let mut client = RawClient::default();
        let written = RawRate { per_second, burst };
        client.rate_limits = RawRateLimits {
            bytes: written,
            subscribe: written,
            publish: written,
            ..RawRateLimits::default()
        };
        let made = rate(&client, metered, &mut Problems::default());
        made.unwrap().burst.get()
    }

    #[test]
    fn nothing_is_limited_that_nobody_limits() {
        let client = RawClient::default();
        for metered in Metered::ALL {
            assert_eq!(rate(&client, metered, &mut Problems::default()), None);
        }
    }

    #[test]
    fn a_burst_that_is_not_said_is_what_a_second_gives_or_what_has_to_be_possible() {
        assert_eq!(burst(Metered::Publish, 5, 0), 5);
        assert_eq!(burst(Metered::Publish, 5, 2), 2);
        assert_eq!(burst(Metered::Subscribe, 5, 0), 128);
        assert_eq!(burst(Metered::Subscribe, 500, 0), 500);
        assert_eq!(burst(Metered::Bytes, 10_000, 0), 65_536);
    }

    #[test]
    fn a_rate_that_would_break_well_behaved_clients_is_a_mistake() {
        let found = problems(|limits| {
            let slow = |burst| RawRate {
                per_second: 1,
                burst,
            };
            limits.messages = slow(127);
            limits.bytes = slow(65_535);
            limits.subscribe = slow(127);
            limits.publish = slow(1);
            limits.presence = RawRate { burst: 1, ..NONE };
            limits.refresh = slow(1);
            limits.errors = slow(127);
        });
        let expected = [
            "messages.burst",
            "bytes.burst",
            "bytes.per_second",
            "subscribe.burst",
            "presence.burst",
            "refresh.burst",
            "errors.burst",
        ];
        assert_eq!(
            found,
            expected.map(|key| format!("client.rate_limits.{key}"))
        );
    }
}
