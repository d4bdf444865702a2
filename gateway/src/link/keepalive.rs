//! Whether a client is still there, on its worker's behalf.
//!
//! Pure: time is an argument. The worker says what is asked how often, and what answers it; nothing here knows what that
//! means.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flotilla_shared::link::KeepAlive;

/// What a worker wants to be asked of a client. Many clients share one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pulse {
    interval: Duration,
    /// How long an answer may take, if one is expected.
    patience: Option<Duration>,
    pub(super) ping: Bytes,
    /// The message that answers; empty: a Pong of the WebSocket.
    pong: Bytes,
    pub(super) code: u16,
    pub(super) reason: String,
}

impl Pulse {
    /// `None`: the client is not asked.
    pub(super) fn new(wanted: &KeepAlive) -> Option<Self> {
        let positive = |millis: u64| (millis > 0).then(|| Duration::from_millis(millis));
        Some(Self {
            interval: positive(wanted.interval_ms)?,
            patience: positive(wanted.timeout_ms),
            // Copies: what came over a link is a part of something larger.
            ping: Bytes::copy_from_slice(&wanted.ping),
            pong: Bytes::copy_from_slice(&wanted.pong),
            code: u16::try_from(wanted.code).unwrap_or_default(),
            reason: wanted.reason.clone(),
        })
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Liveness {
    pulse: Option<Rc<Pulse>>,
    ping_at: Option<Instant>,
    answer_by: Option<Instant>,
}

/// What is to be done now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// The client is to be asked.
    Ping(Rc<Pulse>),
    /// It has not answered.
    Silent(Rc<Pulse>),
}

impl Liveness {
    /// The client is asked from now on. One that is asked the same already goes on in its rhythm.
    pub(super) fn begin(&mut self, pulse: Option<Rc<Pulse>>, now: Instant) {
        if self.pulse != pulse {
            self.ping_at = pulse.as_ref().map(|pulse| now + pulse.interval);
            self.answer_by = None;
        }
        self.pulse = pulse;
    }

    /// The client has sent a message. Whether it was the answer, which concerns nobody else.
    pub(super) fn is_answered_by(&mut self, message: &[u8]) -> bool {
        let pulse = self.pulse.as_ref();
        let is_answer = pulse.is_some_and(|pulse| {
            pulse.patience.is_some() && !pulse.pong.is_empty() && pulse.pong == message
        });
        if is_answer {
            self.answer_by = None;
        }
        is_answer
    }

    /// The client has sent a Pong of the WebSocket.
    pub(super) fn ponged(&mut self) {
        if self
            .pulse
            .as_ref()
            .is_some_and(|pulse| pulse.pong.is_empty())
        {
            self.answer_by = None;
        }
    }

    /// The client is not read: its answer may be there.
    pub(super) fn excuse(&mut self, now: Instant) {
        let patience = self.pulse.as_ref().and_then(|pulse| pulse.patience);
        if let (Some(by), Some(patience)) = (&mut self.answer_by, patience) {
            *by = now + patience;
        }
    }

    /// What is due at `now`. To be asked until it is nothing.
    pub(super) fn due(&mut self, now: Instant) -> Due {
        let Some(pulse) = &self.pulse else {
            return Due::Nothing;
        };
        if self.answer_by.is_some_and(|by| by <= now) {
            return Due::Silent(pulse.clone());
        }
        if self.ping_at.is_none_or(|at| at > now) {
            return Due::Nothing;
        }
        self.ping_at = Some(now + pulse.interval);
        // The answer to an earlier question is still awaited.
        if let (None, Some(patience)) = (self.answer_by, pulse.patience) {
            self.answer_by = Some(now + patience);
        }
        Due::Ping(pulse.clone())
    }

    /// When something is due next.
    pub(super) fn next(&self) -> Option<Instant> {
        [self.ping_at, self.answer_by].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pulse(timeout_ms: u64, pong: &'static [u8]) -> Option<Rc<Pulse>> {
        let wanted = KeepAlive {
            interval_ms: 25_000,
            timeout_ms,
            ping: Bytes::from_static(b"ping"),
            pong: Bytes::from_static(pong),
            code: 3012,
            ..KeepAlive::default()
        };
        Pulse::new(&wanted).map(Rc::new)
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_client_that_is_not_read_is_not_blamed_for_it() {
        let start = Instant::now();
        let (pulse, mut alive) = (pulse(8000, b"{}"), Liveness::default());
        alive.begin(pulse.clone(), start);
        let pulse = pulse.unwrap();
        assert_eq!(alive.due(after(start, 25)), Due::Ping(pulse.clone()));
        alive.excuse(after(start, 32));
        assert_eq!(alive.due(after(start, 39)), Due::Nothing);
        assert_eq!(alive.due(after(start, 40)), Due::Silent(pulse));
    }

    #[test]
    fn a_client_is_asked_in_its_rhythm_and_has_to_answer() {
        let start = Instant::now();
        let (pulse, mut alive) = (pulse(8000, b"{}"), Liveness::default());
        alive.begin(pulse.clone(), start);
        assert_eq!(alive.next(), Some(after(start, 25)));
        assert_eq!(alive.due(after(start, 24)), Due::Nothing);
        assert_eq!(
            alive.due(after(start, 25)),
            Due::Ping(pulse.clone().unwrap())
        );
        assert_eq!(alive.due(after(start, 25)), Due::Nothing);
        assert_eq!(alive.next(), Some(after(start, 33)));
        // Another worker asks the same.
        alive.begin(pulse.clone(), after(start, 26));
        assert!(!alive.is_answered_by(b"something else"));
        alive.ponged();
        assert!(alive.is_answered_by(b"{}"));
        assert_eq!(alive.next(), Some(after(start, 50)));
        assert_eq!(
            alive.due(after(start, 50)),
            Due::Ping(pulse.clone().unwrap())
        );
        assert_eq!(alive.due(after(start, 58)), Due::Silent(pulse.unwrap()));
    }

    #[test]
    fn a_pong_answers_where_it_is_the_answer() {
        let start = Instant::now();
        let mut alive = Liveness::default();
        alive.begin(pulse(8000, b""), start);
        assert!(matches!(alive.due(after(start, 25)), Due::Ping(_)));
        assert!(!alive.is_answered_by(b""));
        alive.ponged();
        assert_eq!(alive.due(after(start, 49)), Due::Nothing);
    }

    #[test]
    fn nobody_has_to_answer_where_no_answer_is_expected() {
        let start = Instant::now();
        let mut alive = Liveness::default();
        alive.begin(pulse(0, b"{}"), start);
        assert!(matches!(alive.due(after(start, 25)), Due::Ping(_)));
        // It is a message like any other then.
        assert!(!alive.is_answered_by(b"{}"));
        assert_eq!(alive.due(after(start, 49)), Due::Nothing);
        alive.begin(None, after(start, 49));
        assert_eq!(alive.next(), None);
        assert_eq!(alive.due(after(start, 99)), Due::Nothing);
    }
}
