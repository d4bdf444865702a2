//! The head of a worker's answer.

use tokio::io::{AsyncRead, AsyncReadExt};

use super::FailureKind;

/// Longest head of a worker's answer.
pub(super) const ANSWER_HEAD_MAX_BYTES: usize = 8192;
/// Most headers of a worker's answer.
const ANSWER_HEADERS_MAX: usize = 64;
const READ_BYTES: usize = 1024;

/// A parsed head.
#[derive(Debug)]
pub(crate) struct AnswerHead {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    /// Bytes that it took.
    pub(crate) length: usize,
}

impl AnswerHead {
    /// Reads a head from a worker. What was read, head included, is in `buffer` then.
    pub(crate) async fn read<S>(stream: &mut S, buffer: &mut Vec<u8>) -> Result<Self, FailureKind>
    where
        S: AsyncRead + Unpin,
    {
        buffer.reserve(READ_BYTES);
        loop {
            match stream.read_buf(buffer).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Err(FailureKind::Broken),
            }
            if let Some(head) = Self::parse(buffer)? {
                return Ok(head);
            }
        }
    }

    fn parse(bytes: &[u8]) -> Result<Option<Self>, FailureKind> {
        let mut headers = [httparse::EMPTY_HEADER; ANSWER_HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let length = match response.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if bytes.len() < ANSWER_HEAD_MAX_BYTES => {
                return Ok(None);
            }
            _ => return Err(FailureKind::Invalid),
        };
        let headers = response.headers.iter().map(|header| {
            let value = String::from_utf8_lossy(header.value).into_owned();
            (header.name.to_owned(), value)
        });
        Ok(Some(Self {
            status: response.code.ok_or(FailureKind::Invalid)?,
            headers: headers.collect(),
            length,
        }))
    }

    /// The first header of this name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// How long its body is, if it says so.
    pub(super) fn body_length(&self) -> Option<usize> {
        self.header("Content-Length")?.parse().ok()
    }
}
