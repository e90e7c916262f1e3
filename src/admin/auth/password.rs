//! Passwords: what is taken, and the hashing of them, off the async threads and few at a time (each
//! takes 19 MiB and tens of milliseconds: OWASP's parameters for argon2id).

use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;

use crate::domain::{Entropy, Secret};

/// Shortest password, in characters (NIST SP 800-63B-4 asks for 15 or, with rate limits, less).
pub const MIN_LENGTH: usize = 12;
/// Longest password, in characters.
pub const MAX_LENGTH: usize = 128;

const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Hashes made at one time.
const AT_ONCE: usize = 4;
/// How long a sign-in waits for its turn.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is checked for addresses that have no password, so that they take as long as those that do.
/// It is the hash of a value that was thrown away.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$d2lja2V0Z2F0ZS1ub2JvZHk$\
                      uhpCtEpWT2Xzq2ibGdGAZUqYzPP2nYYvXEgDc6PGZtk";

/// Why no password was hashed or checked.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// Too many people sign in at this moment.
    #[error("too many passwords are being checked")]
    Busy,
    /// The hash could not be made.
    #[error("the password could not be hashed: {0}")]
    Hash(String),
}

/// Hashes and checks passwords. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Passwords {
    turns: Arc<Semaphore>,
}

impl Default for Passwords {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Passwords {
    /// The PHC string of a password.
    ///
    /// # Errors
    /// [`PasswordError`].
    pub async fn hash(
        &self,
        password: Secret<String>,
        entropy: &dyn Entropy,
    ) -> Result<Secret<String>, PasswordError> {
        let mut salt = [0; 16];
        entropy.fill(&mut salt);
        self.in_turn(move || {
            let hashed = argon2()
                .and_then(|argon2| argon2.hash_password_with_salt(password.expose().as_bytes(), &salt));
            hashed
                .map(|hash| Secret::new(hash.to_string()))
                .map_err(|error| PasswordError::Hash(error.to_string()))
        })
        .await?
    }

    /// Whether `password` is the one behind `hash`; as slow when there is none.
    ///
    /// # Errors
    /// [`PasswordError::Busy`].
    pub async fn verify(
        &self,
        password: Secret<String>,
        hash: Option<Secret<String>>,
    ) -> Result<bool, PasswordError> {
        self.in_turn(move || {
            let known = hash.is_some();
            let phc = hash.as_ref().map_or(NOBODY, |hash| hash.expose().as_str());
            let right = PasswordHash::new(phc).is_ok_and(|hash| {
                argon2()
                    .is_ok_and(|argon2| argon2.verify_password(password.expose().as_bytes(), &hash).is_ok())
            });
            right && known
        })
        .await
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let turn = tokio::time::timeout(PATIENCE, self.turns.clone().acquire_owned()).await;
        let turn = turn.map_err(|_| PasswordError::Busy)?.map_err(|_| PasswordError::Busy)?;
        let work = move || {
            let done = work();
            drop(turn);
            done
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| PasswordError::Busy)
    }
}

fn argon2() -> argon2::password_hash::Result<Argon2<'static>> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// Why a password is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeakPassword {
    /// Too short.
    #[error("must have at least {MIN_LENGTH} characters")]
    Short,
    /// Too long.
    #[error("may have {MAX_LENGTH} characters at most")]
    Long,
    /// Contains what everybody knows about the person.
    #[error("must not contain your name or mail address")]
    Personal,
    /// One of those that are tried first.
    #[error("is one of the passwords that are guessed first")]
    Common,
}

/// Whether a password is taken for this person.
///
/// # Errors
/// As [`WeakPassword`] says.
pub fn check(password: &str, email: &str, name: &str) -> Result<(), WeakPassword> {
    let length = password.chars().count();
    if length < MIN_LENGTH {
        return Err(WeakPassword::Short);
    }
    if length > MAX_LENGTH {
        return Err(WeakPassword::Long);
    }
    let lower = password.to_lowercase();
    let local = email.split('@').next().unwrap_or_default();
    let bare: String = lower.chars().filter(|c| c.is_alphanumeric()).collect();
    let spelled: String = name.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect();
    // A short name inside a long password gives nothing away; a password that is little else does.
    let is_mostly = |part: &str| part.len() >= 3 && bare.contains(part) && bare.len() < part.len() + 8;
    if lower.contains(&email.to_lowercase()) || is_mostly(&local.to_lowercase()) || is_mostly(&spelled) {
        return Err(WeakPassword::Personal);
    }
    if is_common(&lower) {
        return Err(WeakPassword::Common);
    }
    Ok(())
}

fn is_common(lower: &str) -> bool {
    let letters: Vec<char> = lower.chars().collect();
    let distinct: std::collections::BTreeSet<_> = letters.iter().collect();
    let repeats = (1..=letters.len() / 2)
        .any(|unit| letters.iter().enumerate().all(|(at, letter)| *letter == letters[at % unit]));
    let steps = |step: i64| {
        letters.windows(2).all(|pair| i64::from(u32::from(pair[1])) - i64::from(u32::from(pair[0])) == step)
    };
    // What is left without digits and signs around it: "Password123456!" is "password".
    let core = lower.trim_matches(|c: char| !c.is_alphabetic());
    distinct.len() < 5
        || repeats
        || steps(1)
        || steps(-1)
        || COMMON.contains(&core)
        || COMMON.contains(&lower)
}

/// The cores of long passwords that appear in every list of leaked ones.
const COMMON: &[&str] = &[
    "",
    "password",
    "passw0rd",
    "p@ssw0rd",
    "p@ssword",
    "qwerty",
    "qwertyuiop",
    "qwertzuiop",
    "azertyuiop",
    "letmein",
    "iloveyou",
    "welcome",
    "admin",
    "administrator",
    "changeme",
    "changemeplease",
    "secret",
    "trustno",
    "monkey",
    "dragon",
    "sunshine",
    "princess",
    "football",
    "baseball",
    "superman",
    "batman",
    "master",
    "hello",
    "helloworld",
    "abcdef",
    "abcdefgh",
    "asdfghjkl",
    "zxcvbnm",
    "qazwsxedc",
    "1q2w3e4r5t6y",
    "1qaz2wsx3edc",
    "q1w2e3r4t5y6",
    "summer",
    "winter",
    "spring",
    "autumn",
    "default",
    "temporary",
    "guest",
    "testtest",
    "test",
    "testing",
    "correcthorsebatterystaple",
    "correct horse battery staple",
    "wicketgate",
    "mypassword",
    "newpassword",
    "thisismypassword",
    "passwordpassword",
    "letmeinplease",
    "qwertyuiopasdf",
    "qwertyuiopasdfghjkl",
    "asdfghjklqwertyuiop",
    "1234567890qwertyuiop",
    "whatever",
    "starwars",
    "computer",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(password: &str) -> Result<(), WeakPassword> {
        check(password, "anna.berg@example.com", "Anna Berg")
    }

    #[test]
    fn weak_passwords_are_refused() {
        for (password, why) in [
            ("short", WeakPassword::Short),
            ("Password12345!", WeakPassword::Common),
            ("aaaaaaaaaaaaaa", WeakPassword::Common),
            ("abcdefghijklmn", WeakPassword::Common),
            ("xkcdxkcdxkcdxkcd", WeakPassword::Common),
            ("anna.berg2026", WeakPassword::Personal),
            ("AnnaBerg!2345", WeakPassword::Personal),
            ("xx anna.berg@example.com", WeakPassword::Personal),
        ] {
            assert_eq!(verdict(password), Err(why), "{password}");
        }
        assert_eq!(verdict(&"ab1".repeat(50)), Err(WeakPassword::Long));
        assert_eq!(verdict("seven quiet otters"), Ok(()));
    }

    struct Sevens;
    impl Entropy for Sevens {
        fn fill(&self, buffer: &mut [u8]) {
            buffer.fill(7);
        }
    }

    #[tokio::test]
    async fn only_the_right_password_opens_and_nobody_has_none() {
        let passwords = Passwords::default();
        let hash = passwords.hash(Secret::new("seven quiet otters".into()), &Sevens).await.unwrap();
        assert!(hash.expose().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        let check = |text: &str, hash| passwords.verify(Secret::new(text.to_owned()), hash);
        assert!(check("seven quiet otters", Some(hash.clone())).await.unwrap());
        assert!(!check("seven quiet otter", Some(hash)).await.unwrap());
        assert!(!check("seven quiet otters", None).await.unwrap());
        assert!(PasswordHash::new(NOBODY).is_ok(), "else unknown addresses would answer faster");
    }
}
