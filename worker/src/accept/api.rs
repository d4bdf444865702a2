//! The server API on the listener of clients: for development, where one address is to be enough.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use flotilla_shared::http::paths::API_PREFIX;
use flotilla_shared::http::{Header, Persistence, RequestHead, read_body, short_answer};
use tokio::net::TcpStream;

use super::Request;
use super::answer::Answer;
use crate::api::{Answered, ApiService};

/// A call of the API that has been read. Whether the caller may is for the API to say.
pub(super) struct Call {
    service: ApiService,
    head: RequestHead,
    body: Vec<u8>,
    cors: Vec<Header>,
}

/// Reads the call.
pub(super) async fn read(
    socket: &mut TcpStream,
    Request { head, rest }: Request,
    service: &ApiService,
    cors: Vec<Header>,
) -> Result<Call, Answer> {
    let body = read_body(socket, &head, rest, service.body_max_bytes()).await?;
    Ok(Call {
        service: service.clone(),
        head,
        body: body.bytes,
        cors,
    })
}

impl Call {
    /// Makes the call, however long it takes.
    pub(super) async fn answer(self) -> Vec<u8> {
        let method = self.head.path.strip_prefix(API_PREFIX).unwrap_or_default();
        let headers = headers(&self.head);
        let query = self.head.query.as_deref();
        let call = self.service.call(method, query, &headers, &self.body);
        let Answered {
            status,
            content_type,
            body,
        } = call.await;
        let mut headers = self.cors;
        headers.push(("Content-Type", content_type.to_owned()));
        short_answer(status.as_u16(), &headers, &body, Persistence::Close)
    }
}

/// The request's headers in the form in which the API reads them; one that has no such form says nothing to it.
fn headers(head: &RequestHead) -> HeaderMap {
    let parse = |(name, value): &(String, String)| {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        Some((name, HeaderValue::from_str(value).ok()?))
    };
    let mut headers = HeaderMap::new();
    for (name, value) in head.headers.iter().filter_map(parse) {
        headers.append(name, value);
    }
    headers
}
