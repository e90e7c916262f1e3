use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, LocalSet};

use super::*;

type Log = Rc<RefCell<Vec<char>>>;

/// Takes a slice, whatever the machine.
fn work() {
    let since = Instant::now();
    while since.elapsed() < SLICE {
        std::hint::spin_loop();
    }
}

/// A task that works so many times; each is noted.
fn task(turns: &Turns, account: &Rc<Account>, times: usize, name: char, log: &Log) -> JoinHandle<()> {
    let (turns, account, log) = (turns.clone(), account.clone(), log.clone());
    spawn_local(async move {
        let mut left = times;
        let steps = poll_fn(move |cx| {
            work();
            log.borrow_mut().push(name);
            left -= 1;
            cx.waker().wake_by_ref();
            if left == 0 { Poll::Ready(()) } else { Poll::Pending }
        });
        turns.take(&account, steps).await;
    })
}

fn position(log: &Log, name: char) -> usize {
    log.borrow().iter().position(|seen| *seen == name).unwrap()
}

/// Of how many tasks of one visitor another one's is behind. Both take turns, or each their own.
async fn tasks_before_another(turns: [&Turns; 2]) -> usize {
    let log = Log::default();
    // The other first, as what is remembered of anybody is by the clock.
    let (other, many) = (Rc::default(), Rc::default());
    let mut all: Vec<_> = (0..64).map(|_| task(turns[0], &many, 1, 'm', &log)).collect();
    all.push(task(turns[1], &other, 1, 'o', &log));
    for task in all {
        task.await.unwrap();
    }
    position(&log, 'o')
}

#[tokio::test]
async fn who_has_many_tasks_is_not_before_who_has_one() {
    let local = LocalSet::new();
    let turns = Turns::default();
    assert_eq!(local.run_until(tasks_before_another([&turns, &turns])).await, 1);
    // A thread of its own for each task: nobody waits.
    let alone = async {
        let (log, threads) = (Log::default(), (0..9).map(|_| Turns::default()).collect::<Vec<_>>());
        let many = Rc::default();
        let all: Vec<_> = threads.iter().map(|turns| task(turns, &many, 1, 'm', &log)).collect();
        task(&Turns::default(), &Rc::default(), 1, 'o', &log).await.unwrap();
        assert!(all.iter().all(JoinHandle::is_finished));
        position(&log, 'o')
    };
    assert_eq!(local.run_until(alone).await, 9);
}

/// Steps of eight who work before a socket is heard that has something to say from the beginning.
#[tokio::test]
async fn a_socket_is_heard_between_two_who_work() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut theirs, _) = listener.accept().await.unwrap();
    let heard_after = async {
        let (turns, log) = (Turns::default(), Log::default());
        let all: Vec<_> = (0..8).map(|_| task(&turns, &Rc::default(), 50, 'w', &log)).collect();
        let (own, seen) = (turns.clone(), log.clone());
        let reading = spawn_local(async move {
            let reading = Box::pin(async {
                ours.write_all(b"x").await.unwrap();
                theirs.read_u8().await.unwrap();
                seen.borrow_mut().push('r');
            });
            own.take(&Rc::default(), reading).await;
        });
        for task in all {
            task.await.unwrap();
        }
        reading.await.unwrap();
        assert_eq!(log.borrow().len(), 401);
        position(&log, 'r')
    };
    // Each of the others may have been before it, as nobody had used anything.
    let steps = LocalSet::new().run_until(heard_after).await;
    assert!(steps <= 2 * 8, "{steps}");
}

#[test]
fn nobody_has_two_places_in_the_queue() {
    let (turns, account) = (Turns::default(), Rc::default());
    let [first, second] = &mut [turns.share(&account), turns.share(&account)];
    let cx = &Context::from_waker(Waker::noop());
    first.wait(cx);
    let called = turns.0.call().unwrap();
    second.wait(cx);
    turns.0.after(called);
    assert_eq!(turns.0.queue.borrow().len(), 1);
    let called = turns.0.call().unwrap();
    turns.0.after(called);
    assert!(turns.0.call().is_none(), "both were called");
    first.wait(cx);
    assert!(turns.0.call().is_some(), "and may wait again");
}

#[test]
fn what_was_used_is_remembered_for_a_while() {
    let (account, now) = (Account::default(), Instant::now() + NEW);
    assert!(account.has_used_little(now), "not new any more");
    account.charge(now, now + SLICE);
    assert_eq!(account.used.get(), now + SLICE * WEIGHT);
    assert!(!account.has_used_little(now) && account.has_used_little(now + SLICE));
    (0..1_000).for_each(|_| account.charge(now, now + SLICE));
    assert_eq!(account.used.get(), now + SLICE + MEMORY, "and no longer");
    let later = now + Duration::from_secs(60);
    account.charge(later, later + Duration::from_secs(1));
    assert_eq!(account.used.get(), later + STEP * WEIGHT, "what was before is over, and a step is a step");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Tasks of several visitors: how often each works, and after how many steps of all it is dropped, if it is.
    #[test]
    fn everybody_has_all_their_turns(
        tasks in prop::collection::vec((0_usize..4, 1_usize..6, prop::option::of(0_usize..30)), 1..24)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcome = async {
            let (turns, log) = (Turns::default(), Log::default());
            let accounts: [Rc<Account>; 4] = Default::default();
            let mut all: Vec<_> = tasks
                .iter()
                .map(|(who, times, end)| (task(&turns, &accounts[*who], *times, 't', &log), *end))
                .collect();
            let worst = tokio::time::timeout(Duration::from_secs(20), async {
                while all.iter().any(|(task, _)| !task.is_finished()) {
                    let steps = log.borrow().len();
                    for (task, _) in all.iter_mut().filter(|(_, end)| end.is_some_and(|end| end <= steps)) {
                        task.abort();
                    }
                    yield_now().await;
                }
                while !turns.0.queue.borrow().is_empty() {
                    yield_now().await;
                }
            });
            let is_over = worst.await.is_ok();
            let steps = log.borrow().len();
            let due: usize = tasks.iter().filter(|task| task.2.is_none()).map(|task| task.1).sum();
            (is_over && steps >= due).then_some(()).ok_or((is_over, steps, due))
        };
        let outcome = LocalSet::new().block_on(&runtime, outcome);
        prop_assert_eq!(outcome, Ok(()));
    }
}
