//! Why a client does not get what it asks for: the only mapping of such failures to an HTTP status, to what the
//! client may read, and to a metric label.

use std::borrow::Cow;

use flotilla_shared::auth::TokenError;
use flotilla_shared::http::{BodyError, HeadError, Header, refusal};
use flotilla_shared::websocket::{UpgradeError, close_frame};
use thiserror::Error;

/// WebSocket close code for "try again later", registered with IANA.
const TRY_AGAIN_LATER: u16 = 1013;

/// Seconds that a client is told to wait, at least and at most: spread, so that those refused
/// together do not come back together.
const RETRY_AFTER_SECONDS: std::ops::RangeInclusive<u32> = 1..=5;

/// Why a client does not get what it asks for.
#[derive(Debug, Error)]
pub(crate) enum Refusal {
    /// Not HTTP, or too much of it.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// Not a valid WebSocket handshake.
    #[error(transparent)]
    Upgrade(#[from] UpgradeError),
    /// Its body is not acceptable.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// Something came behind a request for an answer that goes on.
    #[error("nothing may follow this request on its connection")]
    Pipelined,
    /// The request did not arrive in time.
    #[error("the request took too long")]
    Timeout,
    /// Not the path of an endpoint.
    #[error("nothing is here")]
    NotFound,
    /// Not a method that the endpoint takes; those that it does.
    #[error("the method is not allowed here")]
    Method(&'static str),
    /// The web page that asks is not allowed to.
    #[error("header Origin names an origin that may not connect")]
    Origin,
    /// A token is required, and there is none.
    #[error("a token is required")]
    TokenMissing,
    /// There is a token, whose key is being fetched.
    #[error("the token cannot be verified at the moment")]
    KeyUnknown,
    /// There is a token, which is not accepted.
    #[error("the token is {}", if matches!(.0, TokenError::Expired) { "expired" } else { "invalid" })]
    Token(TokenError),
    /// The gateway has as many connections as it may have.
    #[error("too many connections")]
    Capacity,
    /// As many short requests are on their way as may be.
    #[error("too many requests at the moment")]
    Busy,
    /// The gateway is leaving.
    #[error("the gateway is shutting down")]
    Draining,
    /// No worker takes the client.
    #[error("no worker is available")]
    NoWorker,
    /// The worker got a short request and did not answer it; whether in time or at all.
    #[error("the worker did not answer")]
    NoAnswer {
        /// There was no answer in time.
        is_timeout: bool,
    },
    /// The worker refused the client; its answer, as it came.
    #[error("refused by the worker")]
    Worker(Vec<u8>),
}

/// What a refusal is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusalKind {
    BadRequest,
    UpgradeUnsupported,
    Timeout,
    NotFound,
    Origin,
    AuthMissing,
    AuthInvalid,
    AuthExpired,
    AuthUnavailable,
    Capacity,
    Draining,
    NoWorker,
    NoAnswer,
    RefusedByWorker,
}

impl RefusalKind {
    pub(crate) const ALL: [Self; 14] = [
        Self::BadRequest,
        Self::UpgradeUnsupported,
        Self::Timeout,
        Self::NotFound,
        Self::Origin,
        Self::AuthMissing,
        Self::AuthInvalid,
        Self::AuthExpired,
        Self::AuthUnavailable,
        Self::Capacity,
        Self::Draining,
        Self::NoWorker,
        Self::NoAnswer,
        Self::RefusedByWorker,
    ];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::UpgradeUnsupported => "upgrade_unsupported",
            Self::Timeout => "timeout",
            Self::NotFound => "not_found",
            Self::Origin => "origin",
            Self::AuthMissing => "auth_missing",
            Self::AuthInvalid => "auth_invalid",
            Self::AuthExpired => "auth_expired",
            Self::AuthUnavailable => "auth_unavailable",
            Self::Capacity => "capacity",
            Self::Draining => "draining",
            Self::NoWorker => "no_worker",
            Self::NoAnswer => "no_answer",
            Self::RefusedByWorker => "refused_by_worker",
        }
    }
}

impl From<TokenError> for Refusal {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::UnknownKey => Self::KeyUnknown,
            error => Self::Token(error),
        }
    }
}

impl Refusal {
    /// What it is counted as.
    pub(crate) fn kind(&self) -> RefusalKind {
        match self {
            Self::Upgrade(error) if error.status() == 426 => RefusalKind::UpgradeUnsupported,
            Self::Head(_)
            | Self::Upgrade(_)
            | Self::Body(_)
            | Self::Pipelined
            | Self::Method(_) => RefusalKind::BadRequest,
            Self::Timeout => RefusalKind::Timeout,
            Self::NotFound => RefusalKind::NotFound,
            Self::Origin => RefusalKind::Origin,
            Self::TokenMissing => RefusalKind::AuthMissing,
            Self::KeyUnknown => RefusalKind::AuthUnavailable,
            Self::Token(TokenError::Expired) => RefusalKind::AuthExpired,
            Self::Token(_) => RefusalKind::AuthInvalid,
            Self::Capacity | Self::Busy => RefusalKind::Capacity,
            Self::Draining => RefusalKind::Draining,
            Self::NoWorker => RefusalKind::NoWorker,
            Self::NoAnswer { .. } => RefusalKind::NoAnswer,
            Self::Worker(_) => RefusalKind::RefusedByWorker,
        }
    }

    /// Whether the client did nothing wrong and should come back.
    pub(crate) fn is_overload(&self) -> bool {
        matches!(
            self,
            Self::KeyUnknown | Self::Capacity | Self::Busy | Self::Draining | Self::NoWorker
        )
    }

    /// The whole HTTP answer, with what lets the page that asks read it.
    pub(crate) fn response(&self, cors: &[Header]) -> Cow<'_, [u8]> {
        let answer = |status, extra: &[Header]| {
            let extra = [extra, cors].concat();
            refusal(status, &self.to_string(), &extra)
        };
        let challenge = |error: &str| [("WWW-Authenticate", format!("Bearer{error}"))];
        let response = match self {
            Self::Head(error) => answer(error.status(), &[]),
            Self::Upgrade(error) => error.response(),
            Self::Body(error) => answer(error.status(), &[]),
            Self::Pipelined => answer(400, &[]),
            Self::Timeout => answer(408, &[]),
            Self::NotFound => answer(404, &[]),
            Self::Method(allowed) => answer(405, &[("Allow", (*allowed).to_owned())]),
            Self::Origin => answer(403, &[]),
            // RFC 6750 §3.
            Self::TokenMissing => answer(401, &challenge("")),
            Self::Token(_) => answer(401, &challenge(" error=\"invalid_token\"")),
            Self::NoAnswer { is_timeout: true } => answer(504, &[]),
            Self::NoAnswer { is_timeout: false } => answer(502, &[]),
            Self::KeyUnknown | Self::Capacity | Self::Busy | Self::Draining | Self::NoWorker => {
                let seconds = rand::random_range(RETRY_AFTER_SECONDS);
                answer(503, &[("Retry-After", seconds.to_string())])
            }
            Self::Worker(answer) => return Cow::Borrowed(answer),
        };
        Cow::Owned(response)
    }

    /// For clients that cannot see HTTP answers (browsers): the Close frame that says to come back,
    /// after a 101.
    pub(crate) fn close(&self) -> bytes::Bytes {
        close_frame(TRY_AGAIN_LATER, &self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(refusal: impl Into<Refusal>, status: u16, kind: RefusalKind, text: &str) {
        let refusal = refusal.into();
        let response = String::from_utf8(refusal.response(&[]).into_owned()).unwrap();
        assert!(
            response.starts_with(&format!("HTTP/1.1 {status} ")),
            "{response}"
        );
        assert!(
            response.ends_with(&format!("\r\n\r\n{text}\n")),
            "{response}"
        );
        assert_eq!(refusal.kind(), kind);
    }

    #[test]
    fn every_refusal_says_its_status_and_reason() {
        use RefusalKind as Kind;
        let malformed = "the request head is malformed";
        check(HeadError::Malformed, 400, Kind::BadRequest, malformed);
        let repeated = "header Host must not be repeated";
        check(
            UpgradeError::Repeated("Host"),
            400,
            Kind::BadRequest,
            repeated,
        );
        let version = "Sec-WebSocket-Version must be 13";
        check(
            UpgradeError::Version,
            426,
            Kind::UpgradeUnsupported,
            version,
        );
        check(
            Refusal::Timeout,
            408,
            Kind::Timeout,
            "the request took too long",
        );
        check(Refusal::NotFound, 404, Kind::NotFound, "nothing is here");
        let origin = "header Origin names an origin that may not connect";
        check(Refusal::Origin, 403, Kind::Origin, origin);
        check(
            Refusal::Capacity,
            503,
            Kind::Capacity,
            "too many connections",
        );
        check(
            Refusal::Busy,
            503,
            Kind::Capacity,
            "too many requests at the moment",
        );
        let silent = "the worker did not answer";
        for (is_timeout, status) in [(true, 504), (false, 502)] {
            let refusal = Refusal::NoAnswer { is_timeout };
            check(refusal, status, Kind::NoAnswer, silent);
        }
        let long = "the request body is too long";
        check(BodyError::TooLong, 413, Kind::BadRequest, long);
        let follows = "nothing may follow this request on its connection";
        check(Refusal::Pipelined, 400, Kind::BadRequest, follows);
        let method = "the method is not allowed here";
        check(Refusal::Method("POST"), 405, Kind::BadRequest, method);
        check(
            Refusal::Draining,
            503,
            Kind::Draining,
            "the gateway is shutting down",
        );
        check(
            Refusal::NoWorker,
            503,
            Kind::NoWorker,
            "no worker is available",
        );
    }

    #[test]
    fn what_is_wrong_with_a_token_is_told_by_its_class_only() {
        use RefusalKind as Kind;
        check(
            Refusal::TokenMissing,
            401,
            Kind::AuthMissing,
            "a token is required",
        );
        let token = |error| Refusal::from(error);
        check(
            token(TokenError::Expired),
            401,
            Kind::AuthExpired,
            "the token is expired",
        );
        check(
            token(TokenError::Signature),
            401,
            Kind::AuthInvalid,
            "the token is invalid",
        );
        check(
            token(TokenError::Claim("aud")),
            401,
            Kind::AuthInvalid,
            "the token is invalid",
        );
        check(
            token(TokenError::UnknownKey),
            503,
            Kind::AuthUnavailable,
            "the token cannot be verified at the moment",
        );
    }

    #[test]
    fn those_who_may_come_back_are_told_when() {
        for refusal in [
            Refusal::from(TokenError::UnknownKey),
            Refusal::Capacity,
            Refusal::Busy,
            Refusal::Draining,
            Refusal::NoWorker,
        ] {
            assert!(refusal.is_overload());
            let response = String::from_utf8(refusal.response(&[]).into_owned()).unwrap();
            let (_, after) = response.split_once("\r\nRetry-After: ").unwrap();
            let seconds: u32 = after.split_once("\r\n").unwrap().0.parse().unwrap();
            assert!(RETRY_AFTER_SECONDS.contains(&seconds));
            assert_eq!(&refusal.close()[2..4], 1013_u16.to_be_bytes());
        }
    }

    #[test]
    fn a_page_that_is_refused_may_read_why() {
        let cors = [("Vary", "Origin".to_owned())];
        let response = Refusal::Method("POST").response(&cors).into_owned();
        let response = String::from_utf8(response).unwrap();
        assert!(
            response.contains("\r\nAllow: POST\r\nVary: Origin\r\n"),
            "{response}"
        );
    }

    #[test]
    fn a_workers_answer_is_passed_on_as_it_came() {
        let answer = b"HTTP/1.1 418 \r\n\r\n".to_vec();
        assert_eq!(&*Refusal::Worker(answer.clone()).response(&[]), answer);
    }
}
