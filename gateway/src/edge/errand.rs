//! Short requests: one question, one answer, from any worker.

use std::mem;

use flotilla_shared::http::{Persistence, preflight, short_head};
use pingora::protocols::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::keep::Stay;
use super::request::Request;
use super::{Edge, Visitor, answer, read};
use crate::endpoint::Errand;
use crate::error::Refusal;
use crate::route::sticky_key;
use crate::upstream::{Call, CallError, FailureKind, Reply};

/// What becomes of the connection after a short request; `None` if the answer could not be delivered.
pub(super) type Answered = Result<Option<Persistence>, Refusal>;

impl Edge {
    /// Keeps the client, or sees it off. The visitor is back if it may ask something else.
    pub(super) async fn conclude(
        &self,
        visitor: Visitor,
        request: &Request,
        answered: Answered,
        start: Instant,
    ) -> Option<Visitor> {
        match answered {
            Ok(Some(Persistence::KeepAlive)) => return Some(visitor),
            Ok(Some(Persistence::Close)) => answer::dismiss(visitor.client).await,
            Ok(None) => {}
            Err(refusal) => {
                let told = (None, request.cors.as_slice());
                self.refuse(visitor.client, told, &refusal, start).await;
            }
        }
        None
    }

    /// Tells a browser that its page may ask, and with what.
    pub(super) async fn preflight(
        &self,
        visitor: &mut Visitor,
        request: &mut Request,
        methods: &str,
    ) -> Answered {
        let early = mem::take(&mut request.early);
        let limit = self.config.head_timeout;
        let body = read::body(&mut visitor.client, &request.head, early, 0, limit).await?;
        visitor.early = body.rest;
        let seat = || Stay::new(self.connections.enter());
        visitor.stay.get_or_insert_with(seat);
        let persistence = self.persistence(visitor, &request.head);
        let answer = preflight(&request.head, methods, persistence);
        let sent = timeout(limit, answer::send(&mut visitor.client, &answer)).await;
        Ok(matches!(sent, Ok(Ok(()))).then_some(persistence))
    }

    /// Passes the request on and the answer back.
    pub(super) async fn pass(
        &self,
        visitor: &mut Visitor,
        request: &mut Request,
        errand: Errand,
        start: Instant,
    ) -> Answered {
        // A drain waits for the answer.
        let seat = || Stay::new(self.connections.enter());
        visitor.stay.get_or_insert_with(seat);
        let early = mem::take(&mut request.early);
        let most = match errand {
            Errand::Emulation => self.config.body_max_bytes,
            Errand::Api => self.config.api_body_max_bytes,
        };
        let limit = self.config.head_timeout;
        let body = read::body(&mut visitor.client, &request.head, early, most, limit).await?;
        // What came behind is the next request.
        visitor.early = body.rest;
        let _place = self.admission.errand()?;
        let path = request.head.path.as_str();
        // Who asks is known to the session that it is for, or said by a key.
        let call = self.forward(request, path, None, |forward| match errand {
            Errand::Emulation => Call::emulation(forward, &body.bytes),
            Errand::Api => Call::api(forward, &body.bytes),
        })?;
        let reply = self.ask(request, &call).await?;
        let persistence = self.persistence(visitor, &request.head);
        let mut headers = reply.headers.clone();
        headers.extend_from_slice(&request.cors);
        let head = short_head(reply.status, &headers, reply.length, persistence);
        let delivery = deliver(&mut visitor.client, head, reply);
        if timeout(self.config.relay.write, delivery).await != Ok(true) {
            return Ok(None);
        }
        self.metrics.answered(errand, start);
        Ok(Some(persistence))
    }

    /// The answer of the first worker that can be reached. Once a worker has been asked, no other is:
    /// it may have done already what it was told.
    async fn ask(&self, request: &Request, call: &Call) -> Result<Reply, Refusal> {
        // The home of a client's connection, unless that is found by its user: then any worker knows
        // where it is.
        let key = sticky_key(&self.config.sticky, &request.head, None, request.address);
        let workers = self.pool.reach(key.as_deref());
        for worker in workers.into_iter().take(self.config.tries) {
            let Some(address) = worker.address() else {
                continue;
            };
            let (kind, is_sent) = match call.with(address, self.config.upstream).await {
                Ok(reply) => return Ok(reply),
                Err(CallError::NotSent(kind)) => (kind, false),
                Err(CallError::Lost(kind)) => (kind, true),
            };
            tracing::debug!(worker = worker.label(), reason = kind.label(), "no answer");
            self.metrics.workers.failed(kind);
            if is_sent {
                let is_timeout = kind == FailureKind::AnswerTimeout;
                return Err(Refusal::NoAnswer { is_timeout });
            }
            self.pool.eject(&worker);
        }
        Err(Refusal::NoWorker)
    }
}

/// Sends the answer, its body as it comes from the worker. Whether all of it was sent.
async fn deliver(client: &mut Stream, head: Vec<u8>, reply: Reply) -> bool {
    let mut beginning = head;
    beginning.extend_from_slice(&reply.early);
    let rest = (reply.length - reply.early.len()) as u64;
    let delivery = async {
        client.write_all(&beginning).await?;
        let mut stream = reply.stream.take(rest);
        let copied = tokio::io::copy(&mut stream, client).await?;
        client.flush().await?;
        std::io::Result::Ok(copied == rest)
    };
    delivery.await.unwrap_or(false)
}
