use std::collections::VecDeque;
use std::io::Read;
use std::sync::Arc;
use std::task::Waker;

use http::HeaderMap;
use tokio::sync::Semaphore;

use super::*;
use crate::edge::finish::coding::Coding;

/// What an app does, step by step; without a step, its body is at its end.
enum Step {
    Sends(Bytes),
    Waits,
    Breaks,
    Trailers,
}

struct App(VecDeque<Step>);

impl Body for App {
    type Data = Bytes;
    type Error = BodyFault;
    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Polled {
        match self.0.pop_front() {
            Some(Step::Sends(data)) => Poll::Ready(Some(Ok(Frame::data(data)))),
            Some(Step::Waits) => Poll::Pending,
            Some(Step::Breaks) => Poll::Ready(Some(Err(BodyFault::Broken))),
            Some(Step::Trailers) => Poll::Ready(Some(Ok(Frame::trailers(HeaderMap::new())))),
            None => Poll::Ready(None),
        }
    }
    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }
}

fn packed(coding: Coding, steps: Vec<Step>) -> Packed<App> {
    let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    Packed::new(App(steps.into()), Packer::new(coding).unwrap(), place)
}

fn poll(body: &mut Packed<App>) -> Polled {
    Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop()))
}

/// Everything until the end or a fault, and whether it came to the end.
fn drained(body: &mut Packed<App>) -> (Vec<u8>, bool) {
    let mut all = Vec::new();
    for _ in 0..100_000 {
        match poll(body) {
            Poll::Ready(Some(Ok(frame))) => {
                let data = frame.into_data().unwrap();
                assert!(!data.is_empty() && data.len() < 6 * PORTION, "{}", data.len());
                all.extend_from_slice(&data);
            }
            Poll::Ready(None) => return (all, true),
            Poll::Ready(Some(Err(_))) => return (all, false),
            Poll::Pending => {}
        }
    }
    panic!("no end")
}

fn unpacked(coding: Coding, packed: &[u8]) -> (Vec<u8>, bool) {
    let mut out = Vec::new();
    let read = match coding {
        Coding::Gzip => flate2::read::GzDecoder::new(packed).read_to_end(&mut out),
        Coding::Zstd => zstd::stream::read::Decoder::new(packed).unwrap().read_to_end(&mut out),
    };
    (out, read.is_ok())
}

#[test]
fn what_an_app_has_said_goes_out_when_it_pauses() {
    for coding in [Coding::Gzip, Coding::Zstd] {
        let steps = vec![
            Step::Sends("one ".into()),
            Step::Sends("two ".into()),
            Step::Waits,
            Step::Waits,
            Step::Sends("three".into()),
        ];
        let mut body = packed(coding, steps);
        let Poll::Ready(Some(Ok(frame))) = poll(&mut body) else { panic!("nothing came") };
        let mut all = frame.into_data().unwrap().to_vec();
        assert_eq!(unpacked(coding, &all).0, b"one two ");
        assert!(poll(&mut body).is_pending(), "nothing is said twice");
        assert!(!body.is_end_stream());
        let (rest, is_whole) = drained(&mut body);
        all.extend(rest);
        assert!(is_whole && body.is_end_stream());
        assert_eq!(unpacked(coding, &all), (b"one two three".to_vec(), true));
    }
}

#[test]
fn large_pieces_are_taken_in_portions_and_come_out_as_they_were() {
    let noise: Vec<u8> = (0..400_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for coding in [Coding::Gzip, Coding::Zstd] {
        for whole in [noise.clone(), vec![b'x'; 3_000_000]] {
            let halves = [&whole[..whole.len() / 2], &[], &whole[whole.len() / 2..]];
            let steps = halves.iter().map(|half| Step::Sends(Bytes::copy_from_slice(half))).collect();
            let (all, is_whole) = drained(&mut packed(coding, steps));
            assert!(is_whole);
            assert!(unpacked(coding, &all) == (whole, true), "{coding:?}");
        }
    }
}

#[test]
fn what_broke_off_is_not_whole_in_any_reading() {
    for coding in [Coding::Gzip, Coding::Zstd] {
        for pause in [false, true] {
            let mut steps = vec![Step::Sends(Bytes::from_static(b"half of it"))];
            steps.extend(pause.then_some(Step::Waits));
            steps.push(Step::Breaks);
            let mut body = packed(coding, steps);
            let (all, is_whole) = drained(&mut body);
            assert!(!is_whole && !body.is_end_stream());
            assert!(all.is_empty() || !unpacked(coding, &all).1, "{coding:?}");
            assert!(matches!(poll(&mut body), Poll::Ready(Some(Err(BodyFault::Broken)))), "and stays so");
        }
    }
}

#[test]
fn trailers_come_after_the_compressors_end() {
    for coding in [Coding::Gzip, Coding::Zstd] {
        let mut body = packed(coding, vec![Step::Sends("text".into()), Step::Trailers]);
        let Poll::Ready(Some(Ok(frame))) = poll(&mut body) else { panic!("nothing came") };
        assert_eq!(unpacked(coding, &frame.into_data().unwrap()), (b"text".to_vec(), true));
        assert!(!body.is_end_stream());
        let Poll::Ready(Some(Ok(frame))) = poll(&mut body) else { panic!("no trailers") };
        assert!(frame.is_trailers() && body.is_end_stream());
        assert!(matches!(poll(&mut body), Poll::Ready(None)));
    }
}
