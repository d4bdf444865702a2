//! Rendezvous hashing: every key has an order of preference over the workers, and all gateways
//! agree on it without talking to each other. A worker that leaves gives up only its own keys, one
//! that joins takes only those it is now first for.
//!
//! With the pools a gateway has (tens of workers, seldom hundreds) scoring each of them costs less
//! than one system call, and there is no ring to rebuild and no number of points to tune.

/// Hashes a key or a worker's name. The same on every gateway, of every version: part of the
/// fleet's contract, so never the standard library's hasher.
pub(super) fn hash(text: &str) -> u64 {
    // FNV-1a spreads poorly in the high bits; the finisher makes up for it.
    let fnv = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    finish(fnv)
}

/// How much the key prefers the worker; the highest score is its home.
pub(super) fn score(key: u64, worker: u64) -> u64 {
    finish(key ^ worker.rotate_left(32))
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014): every input bit reaches every output bit.
fn finish(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Most connections a worker may have before keys go past it (Mirrokni, Thorup, Zadimoghaddam
/// 2016): `factor` times its even share, counting the connection that is being placed.
pub(super) fn load_bound(factor: f64, total: u64, workers: usize) -> u64 {
    let share = (total + 1) as f64 / workers.max(1) as f64;
    (factor * share).ceil() as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn workers(count: usize) -> Vec<u64> {
        (0..count)
            .map(|number| hash(&format!("10.0.0.{number}:8001")))
            .collect()
    }

    fn home(key: &str, workers: &[u64]) -> u64 {
        let key = hash(key);
        *workers
            .iter()
            .max_by_key(|worker| score(key, **worker))
            .unwrap()
    }

    #[test]
    fn the_hash_never_changes() {
        // If this fails, gateways of two versions in one fleet disagree on every key.
        assert_eq!(hash("user-42"), 0x7a15_96f0_e94b_5793);
        assert_eq!(score(1, 2), 0xc72c_0d73_624b_3f8e);
    }

    #[test]
    fn keys_spread_evenly() {
        let workers = workers(8);
        let mut counts = std::collections::HashMap::new();
        for number in 0..80_000 {
            *counts
                .entry(home(&format!("user-{number}"), &workers))
                .or_insert(0) += 1;
        }
        for count in counts.values() {
            assert!((9_500..10_500).contains(count), "{counts:?}");
        }
    }

    proptest! {
        #[test]
        fn a_worker_that_leaves_moves_only_its_own_keys(count in 2usize..20, gone in 0usize..20) {
            let before = workers(count);
            let mut after = before.clone();
            let gone = after.remove(gone % count);
            for number in 0..200 {
                let key = format!("user-{number}");
                let old = home(&key, &before);
                prop_assert!(old == gone || home(&key, &after) == old);
            }
        }

        #[test]
        fn a_worker_that_joins_takes_its_share_and_no_more(count in 1usize..12) {
            let before = workers(count);
            let after = workers(count + 1);
            let keys = 4_000;
            let moved = (0..keys)
                .map(|number| format!("user-{number}"))
                .filter(|key| home(key, &before) != home(key, &after))
                .inspect(|key| assert_eq!(home(key, &after), after[count]))
                .count();
            let share = keys as f64 / (count + 1) as f64;
            prop_assert!((moved as f64) < share * 1.3 && (moved as f64) > share * 0.7, "{moved}");
        }

        #[test]
        fn the_bound_always_leaves_room_somewhere(
            loads in proptest::collection::vec(0u64..1000, 1..20),
            factor in 1.0f64..3.0,
        ) {
            let total = loads.iter().sum();
            let bound = load_bound(factor, total, loads.len());
            prop_assert!(loads.iter().any(|load| *load < bound));
        }
    }
}
