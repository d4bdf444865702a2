//! A hashed timer wheel: the one timer of a thread that has many connections.
//!
//! Owns: which connection wants to be woken when. Knows nothing of connections, sockets or clocks; time is an
//! argument. There is no timer per connection: an idle connection costs one entry of 16 bytes here.
//!
//! Entries are never cancelled. Whoever armed a later one ignores the earlier when it fires; that is cheaper than
//! finding and removing it, and a connection re-arms itself on every firing anyway.

use std::time::{Duration, Instant};

/// How finely deadlines are told apart. Pings, expiries and write stalls are all counted in seconds.
pub const GRANULARITY: Duration = Duration::from_millis(100);

/// Slots of the wheel: deadlines further away than `SLOTS * GRANULARITY` (51.2 s) fire early, at the horizon, and
/// are armed again by their owner.
const SLOTS: usize = 512;

/// See the module's documentation.
#[derive(Debug)]
pub struct Wheel {
    started: Instant,
    /// Ticks that have been fired already.
    now: u64,
    slots: Vec<Vec<Entry>>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: u32,
    tick: u64,
}

impl Wheel {
    /// An empty wheel, whose first tick is [`GRANULARITY`] from `now`.
    pub fn new(now: Instant) -> Self {
        Self {
            started: now,
            now: 0,
            slots: vec![Vec::new(); SLOTS],
        }
    }

    /// Arms `key` and returns the tick at which it will fire: never before `deadline` unless that lies beyond the
    /// horizon, and never in a tick that has fired already.
    pub fn arm(&mut self, key: u32, deadline: Instant) -> u64 {
        let tick = self.tick_of(deadline);
        if let Some(slot) = self.slots.get_mut(tick as usize % SLOTS) {
            slot.push(Entry { key, tick });
        }
        tick
    }

    /// The tick in which `deadline` would fire if it were armed now.
    pub fn tick_of(&self, deadline: Instant) -> u64 {
        let wanted = deadline.saturating_duration_since(self.started).as_nanos();
        let tick = u64::try_from(wanted.div_ceil(GRANULARITY.as_nanos())).unwrap_or(u64::MAX);
        tick.clamp(self.now + 1, self.now + SLOTS as u64 - 1)
    }

    /// Fires everything due at `now`: appends `(key, tick)` to `due`, in order of ticks.
    pub fn advance(&mut self, now: Instant, due: &mut Vec<(u32, u64)>) {
        let elapsed = now.saturating_duration_since(self.started).as_nanos();
        let target = u64::try_from(elapsed / GRANULARITY.as_nanos()).unwrap_or(u64::MAX);
        while self.now < target {
            self.now += 1;
            if let Some(slot) = self.slots.get_mut(self.now as usize % SLOTS) {
                // Every entry of the slot is of this tick: arming is limited to less than one turn ahead.
                due.extend(slot.drain(..).map(|entry| (entry.key, entry.tick)));
                if slot.capacity() > 4096 {
                    slot.shrink_to(1024);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fired(wheel: &mut Wheel, at: Instant) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.advance(at, &mut due);
        due.into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn a_deadline_fires_once_and_never_early() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        wheel.arm(7, start + Duration::from_millis(250));
        assert!(fired(&mut wheel, start + Duration::from_millis(250)).is_empty());
        assert_eq!(fired(&mut wheel, start + Duration::from_millis(300)), [7]);
        assert!(fired(&mut wheel, start + Duration::from_secs(200)).is_empty());
    }

    #[test]
    fn a_deadline_in_the_past_fires_at_the_next_tick() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        fired(&mut wheel, start + Duration::from_secs(3));
        wheel.arm(1, start);
        assert_eq!(fired(&mut wheel, start + Duration::from_millis(3100)), [1]);
    }

    #[test]
    fn a_deadline_beyond_the_horizon_fires_at_the_horizon() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        wheel.arm(1, start + Duration::from_secs(3600));
        assert_eq!(fired(&mut wheel, start + Duration::from_secs(52)), [1]);
    }

    #[test]
    fn a_late_caller_gets_everything_in_order() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        for key in (0..50).rev() {
            wheel.arm(
                key,
                start + Duration::from_millis(100 * u64::from(key) + 50),
            );
        }
        let all = fired(&mut wheel, start + Duration::from_secs(30));
        assert_eq!(all, (0..50).collect::<Vec<_>>());
    }
}
