//! How often somebody may try to log in: a bucket of attempts per key that refills with time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Keys remembered at most. When it is full, the key with the fewest attempts is forgotten, so
/// that an attacker cannot wash out a key under attack with many fresh ones.
const KEYS_MAX: usize = 4096;

#[derive(Debug)]
struct Bucket {
    used: f64,
    at: Instant,
}

/// Attempts by key.
#[derive(Debug)]
pub(super) struct Throttle {
    attempts: f64,
    refill: Duration,
    buckets: HashMap<String, Bucket>,
}

impl Throttle {
    /// `attempts` at once; an empty bucket is full again after `refill`.
    pub(super) fn new(attempts: u32, refill: Duration) -> Self {
        Self {
            attempts: f64::from(attempts),
            refill,
            buckets: HashMap::new(),
        }
    }

    /// Takes one attempt, or says how long to wait for the next. An attempt is paid for before it
    /// is made: a hundred at once must not all slip in before the first has failed.
    pub(super) fn take(&mut self, key: &str, now: Instant) -> Result<(), Duration> {
        let per_attempt = self.refill.div_f64(self.attempts);
        let used = self.used(key, now);
        if used + 1.0 > self.attempts {
            return Err(per_attempt.mul_f64(used + 1.0 - self.attempts));
        }
        if !self.buckets.contains_key(key) && self.buckets.len() >= KEYS_MAX {
            self.forget_one(now);
        }
        let used = used + 1.0;
        self.buckets
            .insert(key.to_owned(), Bucket { used, at: now });
        Ok(())
    }

    /// Forgets the attempts of a key: its owner has logged in.
    pub(super) fn clear(&mut self, key: &str) {
        self.buckets.remove(key);
    }

    fn used(&self, key: &str, now: Instant) -> f64 {
        self.buckets.get(key).map_or(0.0, |bucket| {
            let refilled = now.duration_since(bucket.at).div_duration_f64(self.refill);
            (bucket.used - refilled * self.attempts).max(0.0)
        })
    }

    fn forget_one(&mut self, now: Instant) {
        let used = |key: &str| self.used(key, now);
        let least = self.buckets.keys();
        let least = least.min_by(|a, b| used(a).total_cmp(&used(b))).cloned();
        if let Some(key) = least {
            self.buckets.remove(&key);
        }
    }
}

/// The key of a client: its address, for IPv6 its /64, because one host owns all of that.
pub(super) fn client_key(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFILL: Duration = Duration::from_secs(100);

    #[test]
    fn the_bucket_empties_refills_and_says_how_long() {
        let start = Instant::now();
        let mut throttle = Throttle::new(10, REFILL);
        for _ in 0..10 {
            assert_eq!(throttle.take("mika", start), Ok(()));
        }
        let wait = throttle.take("mika", start).unwrap_err();
        assert_eq!(wait.as_secs(), 10);
        assert_eq!(throttle.take("other", start), Ok(()));
        let later = start + Duration::from_millis(10_001);
        assert_eq!(throttle.take("mika", later), Ok(()));
        assert!(throttle.take("mika", later).is_err());
        throttle.clear("mika");
        assert_eq!(throttle.take("mika", later), Ok(()));
    }

    #[test]
    fn many_fresh_keys_do_not_wash_out_one_under_attack() {
        let now = Instant::now();
        let mut throttle = Throttle::new(3, REFILL);
        while throttle.take("admin", now).is_ok() {}
        for number in 0..2 * KEYS_MAX {
            assert_eq!(throttle.take(&number.to_string(), now), Ok(()));
        }
        assert!(throttle.take("admin", now).is_err());
        assert!(throttle.buckets.len() <= KEYS_MAX);
    }

    #[test]
    fn an_ipv6_host_is_its_prefix() {
        let key = |text: &str| client_key(text.parse().unwrap());
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
    }
}
