//! What is asked for at the same moment, done as one. What a caller learns was done after it asked:
//! nothing is kept.

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::StoreError;

/// Who waits for the next turn.
type Waiting<K, V> = Vec<(K, oneshot::Sender<Result<V, StoreError>>)>;

/// Joins what concurrent callers ask for.
#[derive(Debug)]
pub(in crate::store) struct Together<K, V> {
    waiting: Mutex<Waiting<K, V>>,
    /// Held by the one that does it, for everybody who waits.
    turn: tokio::sync::Mutex<()>,
}

impl<K, V> Default for Together<K, V> {
    fn default() -> Self {
        Self { waiting: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }
}

impl<K: Clone, V> Together<K, V> {
    /// Asks for `key`, of `all`, which answers for each of its keys in order. A caller that stops waiting
    /// in its turn makes the others ask again.
    ///
    /// # Errors
    /// What `all` fails with, to everybody who waited for it.
    pub(in crate::store) async fn join<'s, F>(&self, key: K, all: F) -> Result<V, StoreError>
    where
        F: Fn(Vec<K>) -> BoxFuture<'s, Result<Vec<V>, StoreError>>,
    {
        loop {
            let (reply, mut answer) = oneshot::channel();
            self.waiting.lock().push((key.clone(), reply));
            let turn = tokio::select! {
                biased;
                answer = &mut answer => match answer {
                    Ok(answer) => return answer,
                    // Who asked for us was cancelled.
                    Err(_) => continue,
                },
                turn = self.turn.lock() => turn,
            };
            if let Ok(answer) = answer.try_recv() {
                return answer;
            }
            let waiting = std::mem::take(&mut *self.waiting.lock());
            let (keys, replies): (Vec<_>, Vec<_>) = waiting.into_iter().unzip();
            match all(keys).await {
                Ok(answers) => answer_each(replies, answers.into_iter().map(Ok)),
                Err(error) => answer_each(replies, std::iter::repeat_with(|| Err(error.retold()))),
            }
            drop(turn);
            if let Ok(answer) = answer.try_recv() {
                return answer;
            }
        }
    }
}

/// A caller that has gone does not read its answer.
fn answer_each<V>(
    replies: Vec<oneshot::Sender<Result<V, StoreError>>>,
    answers: impl Iterator<Item = Result<V, StoreError>>,
) {
    for (reply, answer) in replies.into_iter().zip(answers) {
        let _ = reply.send(answer);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::FutureExt;

    use super::*;

    type Doubles = Together<u32, u32>;

    fn doubled(keys: Vec<u32>) -> BoxFuture<'static, Result<Vec<u32>, StoreError>> {
        async move { Ok(keys.iter().map(|key| key * 2).collect()) }.boxed()
    }

    #[tokio::test]
    async fn everybody_learns_what_belongs_to_their_own_key() {
        let together = Doubles::default();
        let all = (0..100).map(|key| together.join(key, doubled));
        let answers = futures_util::future::join_all(all).await;
        assert!(answers.into_iter().zip(0..).all(|(answer, key)| answer.unwrap() == key * 2));
    }

    #[tokio::test]
    async fn who_asks_during_a_read_waits_for_the_next() {
        let together = Arc::new(Doubles::default());
        let reads = Arc::new(AtomicU32::new(0));
        let gate = Arc::new(tokio::sync::Notify::new());
        let read = |key| {
            let (together, reads, gate) = (together.clone(), reads.clone(), gate.clone());
            tokio::spawn(async move {
                let all = |keys: Vec<u32>| {
                    let (reads, gate) = (reads.clone(), gate.clone());
                    async move {
                        let number = reads.fetch_add(1, Ordering::SeqCst);
                        if number == 0 {
                            gate.notified().await;
                        }
                        Ok(keys.iter().map(|_| number).collect())
                    }
                    .boxed()
                };
                together.join(key, all).await
            })
        };
        let first = read(1);
        while reads.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let later: Vec<_> = (2..6).map(read).collect();
        while together.waiting.lock().len() < 4 {
            tokio::task::yield_now().await;
        }
        gate.notify_one();
        assert_eq!(first.await.unwrap().unwrap(), 0);
        for one in later {
            assert_eq!(one.await.unwrap().unwrap(), 1, "one read for all who came meanwhile");
        }
    }

    #[tokio::test]
    async fn a_reader_that_is_cancelled_leaves_nobody_without_an_answer() {
        let together = Arc::new(Doubles::default());
        let never = |_: Vec<u32>| std::future::pending().boxed();
        let mut hangs = Box::pin(together.join(1, never));
        assert!(hangs.as_mut().now_or_never().is_none());
        let mut waits = Box::pin(together.join(2, doubled));
        assert!(waits.as_mut().now_or_never().is_none());
        drop(hangs);
        assert_eq!(waits.await.unwrap(), 4);
    }

    #[tokio::test]
    async fn an_error_is_everybodys() {
        let together = Doubles::default();
        let fails = |_: Vec<u32>| async { Err(StoreError::Missing { what: "row" }) }.boxed();
        let answers = futures_util::future::join_all((0..3).map(|key| together.join(key, fails))).await;
        assert!(answers.iter().all(|answer| matches!(answer, Err(StoreError::Missing { .. }))));
    }
}
