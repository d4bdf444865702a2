//! When what happens: moments that are fixed before the first of them comes.
//!
//! The loop is open. A slow answer does not put off the next request, and latencies count from the
//! moment a request was due, not from when it got sent; otherwise a server that stalls would be
//! asked less, and its stall would count once. Owns the arithmetic only; it never waits.

use std::time::Duration;

use tokio::time::Instant;

/// Moments at a steady rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pacer {
    start: Instant,
    interval: Duration,
}

impl Pacer {
    /// Moments from `start` on, `rate` a second.
    pub fn new(start: Instant, rate: Rate) -> Self {
        Self {
            start,
            interval: rate.interval(),
        }
    }

    /// The same for one of `count` clients that share out an interval, so that they do not all act
    /// at once. `number` counts from 0.
    pub fn staggered(start: Instant, rate: Rate, number: u64, count: u64) -> Self {
        let interval = rate.interval();
        let shift = interval.mul_f64(number as f64 / count.max(1) as f64);
        Self {
            start: start + shift,
            interval,
        }
    }

    /// The moment with this number, counted from 0. Computed from the start each time: errors do
    /// not add up.
    pub fn due(&self, number: u64) -> Instant {
        let interval = u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX);
        self.start + Duration::from_nanos(interval.saturating_mul(number))
    }

    /// How many moments there are in a duration.
    pub fn count_in(&self, duration: Duration) -> u64 {
        let count = duration
            .as_nanos()
            .div_ceil(self.interval.as_nanos().max(1));
        u64::try_from(count).unwrap_or(u64::MAX)
    }
}

/// How often something happens; above zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate(f64);

impl Rate {
    /// Between a thousandth and a million a second.
    pub fn per_second(rate: f64) -> Option<Self> {
        (0.001..=1_000_000.0).contains(&rate).then_some(Self(rate))
    }

    /// How many a second.
    pub fn get(self) -> f64 {
        self.0
    }

    fn interval(self) -> Duration {
        Duration::from_secs_f64(1.0 / self.0)
    }
}

impl std::str::FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rate = text.parse().ok().and_then(Self::per_second);
        rate.ok_or_else(|| "a number from 0.001 to 1000000 is expected".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(rate: f64) -> Rate {
        Rate::per_second(rate).unwrap()
    }

    #[test]
    fn moments_are_evenly_spaced_and_do_not_drift() {
        let start = Instant::now();
        let pacer = Pacer::new(start, rate(4.0));
        assert_eq!(pacer.due(0), start);
        assert_eq!(pacer.due(1), start + Duration::from_millis(250));
        assert_eq!(pacer.due(4_000_000), start + Duration::from_secs(1_000_000));
    }

    #[test]
    fn clients_share_out_the_interval() {
        let start = Instant::now();
        let at = |number| Pacer::staggered(start, rate(1.0), number, 4).due(0) - start;
        assert_eq!(
            [at(0), at(1), at(3)],
            [0, 250, 750].map(Duration::from_millis)
        );
    }

    #[test]
    fn a_duration_holds_the_moments_before_its_end() {
        let pacer = Pacer::new(Instant::now(), rate(10.0));
        let count = |milliseconds| pacer.count_in(Duration::from_millis(milliseconds));
        assert_eq!([count(0), count(1), count(100), count(1000)], [0, 1, 1, 10]);
    }

    #[test]
    fn a_rate_is_a_positive_number() {
        for refused in ["0", "-1", "NaN", "inf", "1e7", "fast", ""] {
            assert!(refused.parse::<Rate>().is_err(), "{refused}");
        }
        assert_eq!("0.5".parse(), Ok(rate(0.5)));
    }
}
