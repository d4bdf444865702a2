//! Sessions that are on their way from one worker to another, at a bounded pace.
//!
//! Owns: who waits for a turn. Those whose link is lost come first, and among them those whose clients have said
//! something that nobody has acknowledged.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::attach::attach;
use super::client::Client;
use super::ending::Ending;
use super::session::LinkNumber;
use super::thread::Thread;
use crate::error::Refusal;
use crate::metrics::{Gauged, MoveReason};
use crate::route::{Decision, Worker};

/// Sessions get their turn in steps of this length.
pub(super) const STEP: Duration = Duration::from_millis(10);

/// Lost sessions that are opened in one step: 5,000 a second.
const OPENED_PER_STEP: usize = 50;

/// Sessions that are released in one step: 2,000 a second.
pub(super) const RELEASED_PER_STEP: usize = 20;

/// Sessions that are moved in one step to a worker that has less to do: 100 a second.
const REBALANCED_PER_STEP: usize = 1;

/// Sessions that are looked at in one step, when somebody has less to do.
const LOOKED_AT_PER_STEP: usize = 100;

/// How often it is looked whether somebody has.
const BALANCE_INTERVAL: Duration = Duration::from_secs(1);

/// How long a session may be nowhere.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait until the workers are asked again, when none takes a session.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);

/// A session that is nowhere.
pub(super) struct Move {
    client: Rc<Client>,
    reason: MoveReason,
    since: Instant,
    /// The worker that is asked last, by its label.
    from: Box<str>,
    /// Counts it for as long as it is nowhere.
    counted: Gauged,
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Moves {
    /// Whose clients wait for an answer.
    owed: RefCell<VecDeque<Move>>,
    others: RefCell<VecDeque<Move>>,
    /// Those that their workers want to be rid of, and where they are.
    to_release: RefCell<VecDeque<(Rc<Client>, LinkNumber)>>,
    news: Notify,
}

impl Moves {
    /// The link of this session is gone.
    pub(super) fn lost(&self, client: Rc<Client>, worker: &Worker, counted: Gauged) {
        let is_owed = client.session.borrow().is_owed();
        let queue = if is_owed { &self.owed } else { &self.others };
        self.push(queue, client, MoveReason::WorkerLost, worker, counted);
    }

    /// The worker of this session has handed it over.
    pub(super) fn released(&self, client: Rc<Client>, worker: &Worker, counted: Gauged) {
        let reason = client.moving();
        self.push(&self.owed, client, reason, worker, counted);
    }

    fn push(
        &self,
        queue: &RefCell<VecDeque<Move>>,
        client: Rc<Client>,
        reason: MoveReason,
        worker: &Worker,
        counted: Gauged,
    ) {
        queue.borrow_mut().push_back(Move {
            client,
            reason,
            since: Instant::now(),
            from: worker.label().into(),
            counted,
        });
        self.news.notify_one();
    }

    /// The worker behind this link wants to be rid of a session.
    pub(super) fn release(&self, client: Rc<Client>, link: LinkNumber) {
        self.to_release.borrow_mut().push_back((client, link));
        self.news.notify_one();
    }

    fn next(&self) -> Option<Move> {
        let owed = self.owed.borrow_mut().pop_front();
        owed.or_else(|| self.others.borrow_mut().pop_front())
    }

    fn is_empty(&self) -> bool {
        self.owed.borrow().is_empty()
            && self.others.borrow().is_empty()
            && self.to_release.borrow().is_empty()
    }

    /// Gives everyone a turn, for ever.
    pub(super) async fn run(thread: Rc<Thread>) {
        let moves = &thread.moves;
        let mut steps = interval(STEP);
        steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if moves.is_empty() {
                moves.news.notified().await;
                continue;
            }
            steps.tick().await;
            for _ in 0..OPENED_PER_STEP {
                let Some(next) = moves.next() else { break };
                tokio::task::spawn_local(carry_over(thread.clone(), next));
            }
            for _ in 0..RELEASED_PER_STEP {
                let next = moves.to_release.borrow_mut().pop_front();
                let Some((client, link)) = next else { break };
                client.release(link, MoveReason::Released);
            }
        }
    }
}

/// Moves sessions to workers that have less to do than others, for ever.
pub(super) async fn balance(thread: Rc<Thread>) {
    let (mut next, mut moved_in_round) = (0, 0);
    loop {
        let Some(imbalance) = thread.edge.pool.imbalance() else {
            sleep(BALANCE_INTERVAL).await;
            continue;
        };
        let mut moved = 0;
        for client in thread.clients_from(&mut next, LOOKED_AT_PER_STEP) {
            if moved < REBALANCED_PER_STEP
                && let Some(link) = client.better_off_without(&imbalance)
            {
                client.release(link, MoveReason::Rebalanced);
                moved += 1;
            }
        }
        moved_in_round += moved;
        // Once round without a reason to move anybody: there is time.
        let is_over = next == 0 && moved_in_round == 0;
        if next == 0 {
            moved_in_round = 0;
        }
        sleep(if is_over { BALANCE_INTERVAL } else { STEP }).await;
    }
}

/// Opens a session at another worker, or closes its client when there is none for too long.
async fn carry_over(thread: Rc<Thread>, journey: Move) {
    let Move {
        client,
        reason,
        since,
        from,
        counted: _counted,
    } = journey;
    while !client.session.borrow().is_closed() {
        let candidates = candidates(&thread, &client, &from, reason);
        let wanted = candidates.first().map(|(worker, _)| worker.clone());
        match attach(&thread, &client, candidates).await {
            Ok(peer) => {
                thread.metrics().moved(reason, since.elapsed());
                // Who does not take sessions that would be better off there must not be offered one after the other.
                if let Some(wanted) = wanted
                    .filter(|wanted| *peer.worker.label() == *from && *wanted.label() != *from)
                {
                    thread.edge.pool.eject(&wanted);
                }
                return;
            }
            Err(Refusal::Worker(_)) => break,
            Err(_) if since.elapsed() + RETRY_INTERVAL > PATIENCE => break,
            Err(_) => sleep(RETRY_INTERVAL).await,
        }
    }
    client.end(Ending::WorkerLost);
}

/// Who may take a session: whoever it is leaving comes last. Where that is cut off, those who turn out to be as well are no
/// better: there, at least its channels are open.
fn candidates(
    thread: &Thread,
    client: &Client,
    from: &str,
    reason: MoveReason,
) -> Vec<(Worker, Decision)> {
    let mut candidates = thread.edge.pool.route(client.facts.sticky_key());
    candidates.sort_by_key(|(worker, _)| {
        let is_from = worker.label() == from;
        let is_no_better = reason == MoveReason::CutOff && worker.is_cut_off();
        (is_no_better && !is_from, is_from)
    });
    candidates
}
