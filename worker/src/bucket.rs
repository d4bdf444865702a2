//! A token bucket: how often something may happen, and how much of it at once.
//!
//! Owns: the arithmetic. Never asks a clock; whoever has a bucket says what time it is.
//!
//! A bucket is one point in time: when it will be full again. What is taken moves that point, and a bucket is empty when
//! the point is as far away as it takes to fill one. So it needs no timer, and one that nobody uses costs nothing.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

const NANOSECONDS: u64 = 1_000_000_000;

/// How fast a bucket fills, and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    /// Tokens that come back every second.
    pub(crate) per_second: NonZeroU32,
    /// Tokens that may be taken at once after a pause.
    pub(crate) burst: NonZeroU32,
}

impl Rate {
    /// How long it takes until so many tokens have come back.
    fn time_for(self, tokens: u32) -> Duration {
        // Never overflows: the tokens take 32 bits, the nanoseconds of a second 30.
        Duration::from_nanos(u64::from(tokens) * NANOSECONDS / u64::from(self.per_second.get()))
    }

    fn time_to_fill(self) -> Duration {
        self.time_for(self.burst.get())
    }
}

/// One bucket, full at first; see the module's documentation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket {
    /// `None`: it was never used.
    full_at: Option<Instant>,
}

impl Bucket {
    /// Takes a token, if there is one.
    pub(crate) fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let full_at = self.after(1, rate, now);
        let fits = full_at <= now + rate.time_to_fill();
        if fits {
            self.full_at = Some(full_at);
        }
        fits
    }

    /// Takes so many tokens, whether there are as many or not; until when the bucket is in debt, if it is.
    pub(crate) fn draw(&mut self, tokens: u32, rate: Rate, now: Instant) -> Option<Instant> {
        let full_at = self.after(tokens, rate, now);
        self.full_at = Some(full_at);
        full_at
            .checked_sub(rate.time_to_fill())
            .filter(|paid| *paid > now)
    }

    /// When the bucket would be full if so many tokens more were taken.
    fn after(self, tokens: u32, rate: Rate, now: Instant) -> Instant {
        let full_at = self.full_at.map_or(now, |at| at.max(now));
        full_at + rate.time_for(tokens)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn rates() -> impl Strategy<Value = Rate> {
        (1_u32..10_000, 1_u32..1_000).prop_map(|(per_second, burst)| rate(per_second, burst))
    }

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate {
            per_second: NonZeroU32::new(per_second).unwrap(),
            burst: NonZeroU32::new(burst).unwrap(),
        }
    }

    /// Tries at these distances from each other; those that are granted, as times since the start.
    fn granted(rate: Rate, gaps: &[u64]) -> Vec<Duration> {
        let start = Instant::now();
        let (mut bucket, mut now, mut granted) = (Bucket::default(), start, Vec::new());
        for gap in gaps {
            now += Duration::from_micros(*gap);
            if bucket.take(rate, now) {
                granted.push(now - start);
            }
        }
        granted
    }

    proptest! {
        #[test]
        fn no_stretch_of_time_sees_more_than_the_burst_and_what_came_back(
            rate in rates(),
            gaps in vec(0_u64..20_000, 1..200),
        ) {
            let granted = granted(rate, &gaps);
            for (first, from) in granted.iter().enumerate() {
                for (last, until) in granted.iter().enumerate().skip(first) {
                    let came_back = (*until - *from).as_secs_f64() * f64::from(rate.per_second.get());
                    // What comes back is cut to whole nanoseconds, in the client's favour.
                    let most = f64::from(rate.burst.get()) + came_back + 0.01;
                    prop_assert!((last - first + 1) as f64 <= most, "{first}..={last} of {granted:?}");
                }
            }
        }

        #[test]
        fn nobody_is_refused_who_keeps_to_the_rate(rate in rates(), count in 1_usize..500) {
            let gap = u64::from(1_000_000_u32.div_ceil(rate.per_second.get()));
            prop_assert_eq!(granted(rate, &vec![gap; count]).len(), count);
        }

        #[test]
        fn after_a_pause_the_whole_burst_is_there_and_no_more(
            rate in rates(),
            before in vec(0_u64..1_000, 0..100),
        ) {
            let start = Instant::now();
            let (mut bucket, mut now) = (Bucket::default(), start);
            for gap in before {
                now += Duration::from_micros(gap);
                bucket.take(rate, now);
            }
            now += rate.time_to_fill();
            for _ in 0..rate.burst.get() {
                prop_assert!(bucket.take(rate, now));
            }
            prop_assert!(!bucket.take(rate, now));
        }

        #[test]
        fn a_debt_is_paid_after_exactly_the_time_that_it_takes(
            rate in rates(),
            draws in vec((0_u32..70_000, 0_u64..1_000_000), 1..50),
        ) {
            let mut now = Instant::now();
            let mut bucket = Bucket::default();
            // The model: what is there, in millionths of a token; below zero is debt.
            let whole = i128::from(rate.burst.get()) * 1_000_000;
            let mut level = whole;
            for (tokens, gap) in draws {
                now += Duration::from_micros(gap);
                level = whole.min(level + i128::from(gap) * i128::from(rate.per_second.get()));
                level -= i128::from(tokens) * 1_000_000;
                let told = bucket.draw(tokens, rate, now).map_or(Duration::ZERO, |paid| paid - now);
                let debt = (-level).max(0) as f64 / 1e6 / f64::from(rate.per_second.get());
                prop_assert!((told.as_secs_f64() - debt).abs() < 1e-6, "{told:?} instead of {debt}");
            }
        }

        #[test]
        fn a_clock_that_stands_still_gives_nothing_back(rate in rates(), tries in 1_usize..2_000) {
            let most = rate.burst.get() as usize;
            prop_assert_eq!(granted(rate, &vec![0; tries]).len(), tries.min(most));
        }
    }

    #[test]
    fn a_bucket_is_two_words() {
        assert_eq!(size_of::<Bucket>(), 16);
    }
}
