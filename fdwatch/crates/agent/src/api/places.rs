//! Places of connections and of event readers: one user or one host cannot take all of them.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// Limit of new connections of one holder per second. Each can cost a TLS handshake.
const MAX_NEW: u32 = 32;

/// New connections per second of all holders except root that a listener accepts in the long run. The others wait in
/// the kernel's queue, which costs the agent nothing: to accept and close a connection takes up to 50 us, and the CPU
/// budget of the whole agent is 1 % by default.
const MAX_NEW_OF_ALL: u32 = 200;

/// Number of connections that a listener accepts at once after a quiet time.
const MAX_BURST: u32 = 2000;

/// Period of the limits of new connections.
const PERIOD: Duration = Duration::from_secs(1);

/// The client that a place is charged to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Holder {
    /// A user of this host.
    User(u32),
    /// An IPv4 address, or the /64 network of an IPv6 address: a single host may use all addresses of its network.
    Address(IpAddr),
    /// A connection over loopback that no process holds any more.
    Closed,
    /// A connection over loopback whose owner could not be looked up.
    Unknown,
}

impl Holder {
    /// The superuser, who has no limit of their own.
    pub(super) const ROOT: Self = Self::User(0);

    /// Returns the holder of a connection from another host.
    pub(super) fn remote(ip: IpAddr) -> Self {
        Self::Address(match ip {
            IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() & (!0 << 64)).into()),
            IpAddr::V4(_) => ip,
        })
    }
}

/// Numbers of places.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) total: usize,
    /// Limit of each holder except root.
    pub(super) per_holder: usize,
    /// Places that only root may take.
    pub(super) for_root: usize,
}

/// Places of one kind.
#[derive(Debug)]
pub(super) struct Places {
    limits: Limits,
    held: Mutex<HashMap<Holder, usize>>,
}

impl Places {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        let held = Mutex::default();
        Arc::new(Self { limits, held })
    }

    /// Takes a place until the returned value is dropped; `None` if the holder may take no more.
    pub(super) fn take(self: &Arc<Self>, holder: Holder) -> Option<Place> {
        let Limits {
            total,
            per_holder,
            for_root,
        } = self.limits;
        let mut held = self.held();
        let all: usize = held.values().sum();
        let of = |holder| held.get(&holder).copied().unwrap_or(0);
        let is_full = if holder == Holder::ROOT {
            all >= total
        } else {
            let others = all - of(Holder::ROOT);
            all >= total || others >= total - for_root || of(holder) >= per_holder
        };
        if is_full {
            return None;
        }
        *held.entry(holder).or_default() += 1;
        Some(Place {
            places: Arc::clone(self),
            holder,
        })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Holder, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A taken place.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    holder: Holder,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.places.held();
        if let Some(count) = held.get_mut(&self.holder) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.holder);
            }
        }
    }
}

/// Limits the rate of new connections of one listener.
#[derive(Debug)]
pub(super) struct Pace {
    /// Start of the current period.
    start: Instant,
    /// Connections of all holders except root, less those that earlier periods allowed.
    all: u32,
    by_holder: HashMap<Holder, u32>,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            all: 0,
            by_holder: HashMap::new(),
        }
    }

    /// Waits until another connection may be accepted.
    pub(super) async fn wait(&mut self) {
        if self.all >= MAX_BURST {
            sleep_until(self.start + PERIOD).await;
        }
        let periods = self.start.elapsed().as_secs();
        if periods > 0 {
            let allowed = u32::try_from(periods).unwrap_or(u32::MAX);
            let allowed = allowed.saturating_mul(MAX_NEW_OF_ALL);
            *self = Self {
                all: self.all.saturating_sub(allowed),
                ..Self::new()
            };
        }
    }

    /// Counts an accepted connection, and returns whether the holder may have it.
    pub(super) fn admits(&mut self, holder: Holder) -> bool {
        if holder == Holder::ROOT {
            return true;
        }
        self.all += 1;
        let count = self.by_holder.entry(holder).or_default();
        *count += 1;
        *count <= MAX_NEW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        total: 10,
        per_holder: 3,
        for_root: 2,
    };

    fn take_all(places: &Arc<Places>, holder: Holder) -> Vec<Place> {
        std::iter::from_fn(|| places.take(holder)).collect()
    }

    #[test]
    fn holder_cannot_take_places_of_others() {
        let places = Places::new(LIMITS);
        let [first, second, third] = [1, 2, 3].map(|uid| take_all(&places, Holder::User(uid)));
        assert_eq!([first.len(), second.len(), third.len()], [3, 3, 2]);
        assert_eq!(take_all(&places, Holder::Unknown).len(), 0);
        assert_eq!(take_all(&places, Holder::ROOT).len(), 2);
        drop(first);
        assert_eq!(take_all(&places, Holder::User(2)).len(), 0);
        assert_eq!(take_all(&places, Holder::User(4)).len(), 3);
    }

    #[test]
    fn root_may_take_all_places() {
        let places = Places::new(LIMITS);
        let of_root = take_all(&places, Holder::ROOT);
        assert_eq!(of_root.len(), 10);
        assert!(places.take(Holder::User(1)).is_none());
        drop(of_root);
        assert!(places.held().is_empty());
    }

    #[test]
    fn ipv6_addresses_of_one_network_are_one_holder() {
        let remote = |ip: &str| Holder::remote(ip.parse().unwrap());
        assert_eq!(remote("2001:db8::1"), remote("2001:db8::ffff:2"));
        assert_ne!(remote("2001:db8::1"), remote("2001:db8:0:1::1"));
        assert_ne!(remote("192.0.2.1"), remote("192.0.2.2"));
    }

    #[tokio::test]
    async fn pace_limits_each_holder_and_all() {
        let mut pace = Pace::new();
        let start = pace.start;
        let admitted =
            |pace: &mut Pace, holder| (0..MAX_BURST).filter(|_| pace.admits(holder)).count();
        assert_eq!(admitted(&mut pace, Holder::ROOT), 2000);
        assert_eq!(admitted(&mut pace, Holder::User(1)), 32);
        assert_eq!(admitted(&mut pace, Holder::User(2)), 32);
        pace.wait().await;
        assert!(start.elapsed() >= PERIOD);
        assert!(pace.all < 2 * MAX_BURST);
        assert!(pace.admits(Holder::User(1)));
    }
}
