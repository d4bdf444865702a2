//! The outcome of a run, for people and for programs.
//!
//! The JSON form is the struct as it is: units are in the names, latencies in milliseconds.

use std::collections::BTreeMap;
use std::fmt;

use flotilla_shared::protocol::Format;
use serde::Serialize;

use crate::stats::Summary;

/// An encoding's name in reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// JSON in text frames.
    Json,
    /// Protobuf in binary frames.
    Protobuf,
}

impl From<Format> for Encoding {
    fn from(format: Format) -> Self {
        match format {
            Format::Json => Self::Json,
            Format::Protobuf => Self::Protobuf,
        }
    }
}

/// The outcome of any scenario.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "scenario", rename_all = "lowercase")]
pub enum Report {
    /// See [`ConnectReport`].
    Connect(ConnectReport),
    /// See [`EchoReport`].
    Echo(EchoReport),
}

/// The outcome of the scenario `connect`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConnectReport {
    /// The server.
    pub url: String,
    /// What was spoken.
    pub encoding: Encoding,
    /// Connections that were wanted.
    pub connections: u64,
    /// How many were to be begun each second.
    pub rate: f64,
    /// From the first attempt until the last had ended.
    pub ramp_seconds: f64,
    /// The whole run.
    pub elapsed_seconds: f64,
    /// Connections that came up.
    pub connected: u64,
    /// What the server sent them afterwards, pings excepted.
    pub messages: u64,
    /// Attempts that did not succeed, by kind of failure.
    pub failed: BTreeMap<String, u64>,
    /// Connections that came up and ended before the end, by how.
    pub dropped: BTreeMap<String, u64>,
    /// From the moment a connection was due until the answer to `connect`.
    pub connect: Summary,
    /// From then until the answer to `subscribe`, if there was one.
    pub subscribe: Option<Summary>,
}

/// The outcome of the scenario `echo`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EchoReport {
    /// The server.
    pub url: String,
    /// What was spoken.
    pub encoding: Encoding,
    /// Clients that were wanted.
    pub clients: u64,
    /// Messages that each was to publish a second.
    pub rate_per_client: f64,
    /// Size of a message's payload.
    pub payload_bytes: usize,
    /// From the first message until the last client had all, or had waited long enough.
    pub elapsed_seconds: f64,
    /// Clients that came up.
    pub connected: u64,
    /// Clients that did not, by kind of failure.
    pub failed: BTreeMap<String, u64>,
    /// Clients that came up and ended before the end, by how.
    pub dropped: BTreeMap<String, u64>,
    /// Messages published.
    pub sent: u64,
    /// Messages that came back, each once and in order.
    pub received: u64,
    /// Messages that did not come back until the end.
    pub lost: u64,
    /// Messages that came back twice, or after a later one.
    pub out_of_order: u64,
    /// Messages that the server refused, by error.
    pub refused: BTreeMap<String, u64>,
    /// `received` over `elapsed_seconds`.
    pub received_per_second: f64,
    /// From the moment a message was due until it came back.
    pub latency: Summary,
    /// From the moment it was really sent. Much less than `latency`: the load generator was late.
    pub round_trip: Summary,
}

impl Report {
    /// Whether all went as it should.
    pub fn is_clean(&self) -> bool {
        match self {
            Self::Connect(report) => {
                report.connected == report.connections && report.dropped.is_empty()
            }
            Self::Echo(report) => {
                report.connected == report.clients
                    && report.dropped.is_empty()
                    && report.received == report.sent
                    && report.out_of_order == 0
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(report) => report.fmt(f),
            Self::Echo(report) => report.fmt(f),
        }
    }
}

impl fmt::Display for ConnectReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            url,
            encoding,
            connections,
            rate,
            connected,
            ..
        } = self;
        writeln!(f, "connect  {url}  {encoding:?}")?;
        writeln!(
            f,
            "  connected      {connected} of {connections} at {rate}/s in {:.1} s",
            self.ramp_seconds
        )?;
        writeln!(f, "  messages       {}", self.messages)?;
        counts(f, "failed", &self.failed)?;
        counts(f, "dropped", &self.dropped)?;
        latencies(f, "connect", &self.connect)?;
        match &self.subscribe {
            Some(subscribe) => latencies(f, "subscribe", subscribe),
            None => Ok(()),
        }
    }
}

impl fmt::Display for EchoReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            url,
            encoding,
            clients,
            connected,
            ..
        } = self;
        writeln!(f, "echo  {url}  {encoding:?}")?;
        writeln!(f, "  connected      {connected} of {clients}")?;
        counts(f, "failed", &self.failed)?;
        counts(f, "dropped", &self.dropped)?;
        writeln!(
            f,
            "  offered        {:.1}/s, {} bytes each",
            self.rate_per_client * *clients as f64,
            self.payload_bytes
        )?;
        writeln!(
            f,
            "  received       {} of {} in {:.1} s ({:.1}/s), {} lost, {} out of order",
            self.received,
            self.sent,
            self.elapsed_seconds,
            self.received_per_second,
            self.lost,
            self.out_of_order
        )?;
        counts(f, "refused", &self.refused)?;
        latencies(f, "latency", &self.latency)?;
        latencies(f, "round trip", &self.round_trip)
    }
}

fn counts(f: &mut fmt::Formatter<'_>, what: &str, counts: &BTreeMap<String, u64>) -> fmt::Result {
    for (kind, count) in counts {
        writeln!(f, "  {what:<14} {count}: {kind}")?;
    }
    Ok(())
}

fn latencies(f: &mut fmt::Formatter<'_>, what: &str, summary: &Summary) -> fmt::Result {
    let Summary {
        count,
        p50,
        p90,
        p99,
        p999,
        max,
        ..
    } = summary;
    if *count == 0 {
        return Ok(());
    }
    writeln!(
        f,
        "  {what:<14} p50 {p50:.2}  p90 {p90:.2}  p99 {p99:.2}  p99.9 {p999:.2}  max {max:.2} ms"
    )
}
