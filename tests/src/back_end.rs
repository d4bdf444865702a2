//! A little back end that is asked by hooks: it keeps what it was asked, and answers what a test wants.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::SOON;

/// Most of a question that is read, in bytes.
const QUESTION_MAX_BYTES: usize = 1024 * 1024;

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its method.
    pub method: Method,
    /// Where it went, which says which hook it is.
    pub path: String,
    /// All its headers.
    pub headers: HeaderMap,
    /// Its body as it was sent.
    pub body: Bytes,
    /// The other end of its connection.
    pub peer: SocketAddr,
}

impl Asked {
    /// The body, if it is JSON; otherwise null.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The header's values.
    pub fn header(&self, name: &str) -> Vec<&str> {
        let values = self.headers.get_all(name).iter();
        values.filter_map(|value| value.to_str().ok()).collect()
    }
}

/// See the module's documentation. It ends when it is dropped.
#[derive(Debug)]
pub struct BackEnd {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

type Answer = Box<dyn Fn(&Asked) -> Response + Send>;

struct Shared {
    answers: Mutex<Answers>,
    asked: watch::Sender<Vec<Asked>>,
    /// Requests to this path are not answered.
    held: watch::Sender<Option<&'static str>>,
}

struct Answers {
    to_all: Answer,
    by_path: HashMap<&'static str, Answer>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl BackEnd {
    /// One that grants whatever it is asked.
    ///
    /// # Errors
    /// When there is no port for it.
    pub async fn start() -> Result<Self> {
        let shared = Arc::new(Shared {
            answers: Mutex::new(Answers {
                to_all: Box::new(|_| r#"{"result":{}}"#.into_response()),
                by_path: HashMap::new(),
            }),
            asked: watch::channel(Vec::new()).0,
            held: watch::channel(None).0,
        });
        let router = Router::new().fallback(serve).with_state(shared.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        Ok(Self {
            address,
            shared,
            server: tokio::spawn(async { drop(axum::serve(listener, service).await) }),
        })
    }

    /// Where it is; questions may go to any path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers everything with 200 and this body from now on.
    pub fn says(&self, body: &'static str) {
        self.does(move || body.into_response());
    }

    /// Answers everything like this from now on.
    pub fn does(&self, answer: impl Fn() -> Response + Send + 'static) {
        let mut answers = lock(&self.shared.answers);
        answers.by_path.clear();
        answers.to_all = Box::new(move |_| answer());
    }

    /// Answers what goes to the path with 200 and this body from now on.
    pub fn says_at(&self, path: &'static str, body: impl Into<String>) {
        let body = body.into();
        self.does_at(path, move |_| body.clone());
    }

    /// Answers what goes to the path with 200 and the body that `answer` makes from now on.
    pub fn does_at(&self, path: &'static str, answer: impl Fn(&Asked) -> String + Send + 'static) {
        let answer = Box::new(move |asked: &Asked| answer(asked).into_response());
        lock(&self.shared.answers).by_path.insert(path, answer);
    }

    /// Does not answer requests to the path until [`BackEnd::release`].
    pub fn hold(&self, path: &'static str) {
        self.shared.held.send_replace(Some(path));
    }

    /// Answers what was held, and holds nothing any more.
    pub fn release(&self) {
        self.shared.held.send_replace(None);
    }

    /// What it was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.borrow().clone()
    }

    /// Waits until it was asked so many times.
    ///
    /// # Errors
    /// When it is not in time.
    pub async fn was_asked(&self, times: usize) -> Result<()> {
        self.wait_for(|asked| asked.len() >= times).await?;
        Ok(())
    }

    /// Waits until it was asked so many times at the path, and returns the last of these questions.
    ///
    /// # Errors
    /// When it is not in time.
    pub async fn was_asked_at(&self, path: &str, times: usize) -> Result<Asked> {
        let nth = |asked: &[Asked]| {
            let mut there = asked.iter().filter(|asked| asked.path == path);
            there.nth(times - 1).cloned()
        };
        let asked = self.wait_for(|asked| nth(asked).is_some()).await;
        nth(&asked.with_context(|| format!("{times} times at {path}"))?).context("was there")
    }

    async fn wait_for(&self, enough: impl Fn(&[Asked]) -> bool) -> Result<Vec<Asked>> {
        let mut asked = self.shared.asked.subscribe();
        let asked = asked.wait_for(|asked| enough(asked));
        let asked = timeout(SOON, asked).await.context("not asked in time")??;
        Ok(asked.clone())
    }
}

impl Drop for BackEnd {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, QUESTION_MAX_BYTES).await;
    let path = head.uri.path().to_owned();
    let asked = Asked {
        method: head.method,
        path: path.clone(),
        headers: head.headers,
        body: body.unwrap_or_default(),
        peer,
    };
    shared.asked.send_modify(|all| all.push(asked.clone()));
    let mut held = shared.held.subscribe();
    let is_free = |held: &Option<&str>| held.is_none_or(|held| held != path);
    let _ = held.wait_for(is_free).await;
    let answers = lock(&shared.answers);
    let answer = answers.by_path.get(&*path).unwrap_or(&answers.to_all);
    answer(&asked)
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
