//! Who is connected to a listener, and who gives way when there is no room.
//!
//! A newcomer to a full listener gets the place of whoever has waited longest without sending a whole
//! request: the silent and the slow lose theirs first, and one whose request is being answered never does.
//! Users other than root may each have a quarter of the places and together three quarters, so that root
//! (Docker, the operator) always finds one.

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How often the log tells that connections were closed for want of room.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Root, or the user that the daemon runs as.
    Operator,
    /// Another user, by number.
    User(u32),
    /// Nobody knows: the network does not say.
    Unknown,
}

impl Peer {
    /// The user of a connection to a unix socket, as `SO_PEERCRED` tells.
    pub fn of(user: u32) -> Self {
        if user == 0 || user == rustix::process::geteuid().as_raw() {
            Self::Operator
        } else {
            Self::User(user)
        }
    }
}

/// The connections of a listener.
#[derive(Debug)]
pub struct Crowd {
    listener: &'static str,
    most: usize,
    inside: Mutex<Inside>,
    /// Counts beginnings of waiting: the lower, the longer ago.
    clock: AtomicU64,
}

#[derive(Debug, Default)]
struct Inside {
    members: BTreeMap<u64, Arc<Member>>,
    next: u64,
    told: Option<Instant>,
    closed: u64,
}

#[derive(Debug)]
struct Member {
    peer: Peer,
    /// When it began to wait for a request; [`BUSY`] while one is answered.
    waits_since: AtomicU64,
    out: CancellationToken,
}

const BUSY: u64 = u64::MAX;

impl Crowd {
    /// Room for so many connections.
    pub fn new(listener: &'static str, most: usize) -> Self {
        Self { listener, most, inside: Mutex::default(), clock: AtomicU64::new(0) }
    }

    /// Takes a place for a connection, which another may lose by it; `None` if there is none to be had.
    pub fn enter(self: &Arc<Self>, peer: Peer) -> Option<ConnectionSlot> {
        let mut inside = self.inside();
        let user = matches!(peer, Peer::User(_));
        // The narrowest limit first: who exceeds a share of their own takes from nobody else.
        let groups: [(usize, &dyn Fn(Peer) -> bool); 3] = [
            (self.most / 4, &|other| other == peer),
            (self.most / 4 * 3, &|other| matches!(other, Peer::User(_))),
            (self.most, &|other| !user || matches!(other, Peer::User(_))),
        ];
        for (number, (most, may_give_way)) in groups.into_iter().enumerate() {
            let is_whole = number == 2;
            if !is_whole && !user {
                continue;
            }
            let taken =
                inside.members.values().filter(|member| is_whole || may_give_way(member.peer)).count();
            if taken >= most.max(1) && !inside.make_room(may_give_way) {
                self.tell(&mut inside);
                return None;
            }
        }
        if inside.closed > 0 {
            self.tell(&mut inside);
        }
        let id = inside.next;
        inside.next += 1;
        let member = Arc::new(Member {
            peer,
            waits_since: AtomicU64::new(self.tick()),
            out: CancellationToken::new(),
        });
        inside.members.insert(id, Arc::clone(&member));
        Some(ConnectionSlot { crowd: Arc::clone(self), id, member })
    }

    /// Counts those that are connected.
    pub fn count(&self) -> usize {
        self.inside().members.len()
    }

    fn tell(&self, inside: &mut Inside) {
        if inside.told.is_none_or(|told| told.elapsed() > TELL_EVERY) {
            inside.told = Some(Instant::now());
            tracing::warn!(
                listener = self.listener,
                most = self.most,
                "too many connections: those that send no request are closed"
            );
        }
        inside.closed = 0;
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock()
    }
}

impl Inside {
    /// Closes the connection that has waited longest, of those that may be closed.
    fn make_room(&mut self, may_give_way: &dyn Fn(Peer) -> bool) -> bool {
        let waits = |member: &Member| member.waits_since.load(Ordering::Relaxed);
        let longest = self
            .members
            .iter()
            .filter(|(_, member)| waits(member) != BUSY && may_give_way(member.peer))
            .min_by_key(|(_, member)| waits(member))
            .map(|(id, _)| *id);
        let Some(member) = longest.and_then(|id| self.members.remove(&id)) else { return false };
        member.out.cancel();
        self.closed += 1;
        true
    }
}

/// A connection's place, given back when dropped.
#[derive(Debug)]
pub struct ConnectionSlot {
    crowd: Arc<Crowd>,
    id: u64,
    member: Arc<Member>,
}

impl ConnectionSlot {
    /// Notes that a request is being answered, until the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> Busy {
        self.member.waits_since.store(BUSY, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// Ends when the connection has to give way.
    pub async fn gives_way(&self) {
        self.member.out.cancelled().await;
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.crowd.inside().members.remove(&self.id);
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub struct Busy(Arc<ConnectionSlot>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.member.waits_since.store(self.0.crowd.tick(), Ordering::Relaxed);
    }
}

/// The body of an answer, which keeps its connection from giving way until all of it was handed over.
#[derive(Debug)]
pub struct AnswerBody {
    body: Body,
    _busy: Busy,
}

impl AnswerBody {
    /// Wraps a body, whose connection is busy until it is sent.
    pub fn new(body: Body, busy: Busy) -> Self {
        Self { body, _busy: busy }
    }
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(crowd: &Arc<Crowd>, peer: Peer, many: usize) -> Vec<Arc<ConnectionSlot>> {
        (0..many).filter_map(|_| crowd.enter(peer).map(Arc::new)).collect()
    }

    fn left(places: &[Arc<ConnectionSlot>]) -> usize {
        places.iter().filter(|place| !place.member.out.is_cancelled()).count()
    }

    #[test]
    fn the_one_that_waits_longest_gives_way_and_a_busy_one_never_does() {
        let crowd = Arc::new(Crowd::new("test", 8));
        let places = enter(&crowd, Peer::Operator, 8);
        let busy = places[0].begin();
        let more = enter(&crowd, Peer::Operator, 3);
        assert_eq!((more.len(), crowd.count()), (3, 8));
        let gone: Vec<bool> = places.iter().map(|place| place.member.out.is_cancelled()).collect();
        assert_eq!(gone, [false, true, true, true, false, false, false, false]);
        // After an answer it waits again, as the last.
        drop(busy);
        let again = enter(&crowd, Peer::Operator, 4);
        assert_eq!((again.len(), left(&places), left(&more)), (4, 1, 3), "{}", crowd.count());
        drop((places, more, again));
        assert_eq!(crowd.count(), 0);
    }

    #[test]
    fn all_busy_is_full() {
        let crowd = Arc::new(Crowd::new("test", 4));
        let places = enter(&crowd, Peer::Unknown, 4);
        let busy: Vec<Busy> = places.iter().map(ConnectionSlot::begin).collect();
        assert!(crowd.enter(Peer::Operator).is_none());
        drop(busy);
        assert!(crowd.enter(Peer::Operator).is_some());
    }

    #[test]
    fn users_have_a_share_and_take_from_themselves() {
        let crowd = Arc::new(Crowd::new("test", 16));
        let root = enter(&crowd, Peer::Operator, 2);
        let first = enter(&crowd, Peer::User(1), 100);
        assert_eq!((first.len(), left(&first), left(&root)), (100, 4, 2));
        let others: Vec<_> = (2..50).flat_map(|user| enter(&crowd, Peer::User(user), 4)).collect();
        assert_eq!((left(&first) + left(&others), left(&root)), (12, 2));
        // Busy with whatever they can get, they still leave root a quarter.
        let busy: Vec<Busy> =
            others.iter().filter(|it| !it.member.out.is_cancelled()).map(ConnectionSlot::begin).collect();
        assert!(crowd.enter(Peer::User(99)).is_none() && busy.len() == 12);
        assert_eq!(enter(&crowd, Peer::Operator, 2).len(), 2);
    }
}
