//! Layered configuration: defaults < TOML file < environment < flags.
//!
//! Owns how settings are read, where each comes from, what is said about mistakes, and the flags
//! that go with it. It does not know any process' settings: a process has two types of its own, the
//! settings as written, and the configuration that is made from them once they make sense.
//!
//! ```
//! use std::{process::ExitCode, time::Duration};
//!
//! use flotilla_shared::config::{Problems, Program, cli};
//! use serde::{Deserialize, Serialize};
//!
//! /// As written: every struct has defaults and refuses keys that it does not know.
//! #[derive(Serialize, Deserialize)]
//! #[serde(default, deny_unknown_fields)]
//! struct RawConfig {
//!     listen: String,
//!     #[serde(with = "flotilla_shared::config::duration")]
//!     ping_interval: Duration,
//! }
//!
//! impl Default for RawConfig {
//!     fn default() -> Self {
//!         Self { listen: "127.0.0.1:8001".to_owned(), ping_interval: Duration::from_secs(25) }
//!     }
//! }
//!
//! /// As used: whatever exists of it makes sense.
//! struct Config {
//!     listen: std::net::SocketAddr,
//!     ping_interval: Duration,
//! }
//!
//! impl Config {
//!     /// Notes everything that is wrong before it gives up.
//!     fn new(raw: &RawConfig, problems: &mut Problems) -> Option<Self> {
//!         let listen = problems.check("listen", raw.listen.parse());
//!         if raw.ping_interval.is_zero() {
//!             problems.add("ping_interval", "has to be longer than nothing");
//!         }
//!         Some(Self { listen: listen?, ping_interval: raw.ping_interval })
//!     }
//! }
//!
//! const PROGRAM: Program = Program { name: "worker", about: "Serves clients." };
//!
//! fn run(args: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
//!     cli::run(&PROGRAM, args, std::env::vars_os(), Config::new, serve)
//! }
//!
//! fn serve(config: Config) -> std::io::Result<()> {
//!     println!("would listen on {} and ping every {:?}", config.listen, config.ping_interval);
//!     Ok(())
//! }
//! # let args = ["flotilla-worker", "--set", "listen=127.0.0.1:0"];
//! # assert_eq!(run(args.into_iter().map(Into::into)), ExitCode::SUCCESS);
//! ```

pub mod cli;
pub mod duration;
mod load;
mod origin;
mod print;
mod problem;
mod source;

pub use cli::{CommonFlags, EXIT_CONFIG, Program};
pub use load::{Loaded, load};
pub use problem::{ConfigError, ConfigErrors, Problems};
pub use source::Sources;
