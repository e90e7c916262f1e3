//! `wicketgate agent` against the running program, killed at every step: there is always a usable pair
//! on disk, and the next run goes on.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::backend;
use super::device::Device;
use super::house::{DOOR, House, Plan, wicketgate};
use super::whole::run;
use crate::harness::{peers, wait_for};
use crate::prove::Proof;

/// Every step at which a renewal can end, in their order.
const STEPS: [&str; 13] = [
    "agent.before_pending",
    "agent.before_pending_has_its_name",
    "agent.after_pending",
    "agent.before_request",
    "agent.after_answer",
    "agent.before_version_has_its_name",
    "agent.after_version",
    "agent.before_swap",
    "agent.after_swap",
    "agent.after_pending_dropped",
    "agent.before_hook",
    "agent.after_hook",
    // Not reached: the process must end by itself.
    "agent.none",
];

/// Of them, those at which it is killed.
pub(crate) const POINTS: u64 = STEPS.len() as u64 - 1;

/// A machine with the agent on it.
struct Machine<'a> {
    house: &'a House,
    folder: PathBuf,
}

impl Machine<'_> {
    /// The agent's command line; a hook that writes down which certificate it was run for.
    fn agent(&self, act: &[&str], stop_at: &str) -> std::process::Command {
        let hook = format!("echo \"$WICKETGATE_AGENT_SERIAL\" >> {}.hooks", self.folder.display());
        let mut command = wicketgate(&["agent"]);
        command.args(act).arg("--dir").arg(&self.folder).args(["--hook", &hook]);
        command.env("WICKETGATE_STOP_AT", stop_at);
        command
    }

    /// Runs it; again when it comes too often for the door.
    fn run(&self, act: &[&str]) -> Output {
        wait_for("a place at the door", || {
            let output = self.agent(act, "").output().unwrap();
            (!text(&output).contains("429")).then_some(output)
        })
    }

    /// Runs it and sends it SIGKILL where it stands at the step; whether it stood there. Again when it
    /// comes too often for the door.
    fn strike(&self, act: &[&str], step: &str) -> bool {
        wait_for("a place at the door", || {
            let mut agent = self.agent(act, step);
            let mut child = agent.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let said = BufReader::new(child.stdout.take().unwrap());
            let stood = said.lines().map_while(Result::ok).any(|line| line.starts_with("stopped at "));
            if stood {
                child.kill().unwrap();
            }
            let output = child.wait_with_output().unwrap();
            if stood {
                assert_eq!(output.status.signal(), Some(SIGKILL));
            } else if !text(&output).contains("429") {
                assert!(output.status.success(), "{step}: {}", text(&output));
            } else {
                return None;
            }
            Some(stood)
        })
    }

    /// What enrols it.
    fn enrolment(&self, token: &str) -> Vec<String> {
        let door = format!("https://{DOOR}:{}", self.house.https);
        let ca = self.house.path("authority.pem").to_str().unwrap().to_owned();
        let act = ["enrol", "--door", &door, "--invitation", token, "--name", "pump 7", "--ca", &ca];
        act.map(str::to_owned).to_vec()
    }

    /// What is in use, if anything is: OpenSSL finds that key and certificate belong together.
    fn pair(&self) -> Option<Device> {
        let file = |name: &str| self.folder.join("current").join(name).to_str().unwrap().to_owned();
        if !Path::new(&file("cert.pem")).exists() {
            return None;
        }
        let of_key = run("openssl", &["pkey", "-in", &file("key.pem"), "-pubout"]).unwrap();
        let of_certificate =
            run("openssl", &["x509", "-in", &file("cert.pem"), "-noout", "-pubkey"]).unwrap();
        assert_eq!(of_key, of_certificate, "key and certificate do not belong together");
        let read = |name: &str| std::fs::read_to_string(file(name)).unwrap();
        Some(Device { key_pem: read("key.pem"), chain_pem: read("cert.pem") })
    }

    /// What is in use opens the app.
    #[track_caller]
    fn check_usable(&self, when: &str) {
        let pair = self.pair().unwrap_or_else(|| panic!("{when}: nothing is in use"));
        assert_eq!(self.house.visit(Some(&pair), "/"), (200, String::new()), "{when}");
    }

    fn serial(&self) -> String {
        let target = std::fs::read_link(self.folder.join("current")).unwrap();
        target.file_name().unwrap().to_str().unwrap().to_owned()
    }

    fn hooks(&self) -> Vec<String> {
        let text = std::fs::read_to_string(format!("{}.hooks", self.folder.display())).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The next run finishes what the last one left, and leaves nothing but what belongs here.
    #[track_caller]
    fn check_goes_on(&self, when: &str) {
        let output = self.run(&["run", "--once"]);
        assert!(output.status.success(), "{when}: {}", String::from_utf8_lossy(&output.stderr));
        self.check_usable(when);
        assert_eq!(self.hooks().last(), Some(&self.serial()), "{when}: the hook ran for what is in use");
        for entry in std::fs::read_dir(&self.folder).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            assert!(name != "pending" && !name.starts_with(".new-"), "{when}: {name} is left");
        }
        let versions = std::fs::read_dir(self.folder.join("versions")).unwrap().count();
        assert!(versions <= 2, "{when}: {versions} versions");
    }
}

/// Kills the agent at every step `rounds` times, and at any moment between; how many kills left a usable
/// pair. Nothing when a peer is missing.
pub(crate) fn at_every_step(proof: &Proof, rounds: u64) -> Option<u64> {
    peers::peer("openssl")?;
    // All agents come from one address, and every house has a budget for it.
    let houses = (rounds / 5).clamp(1, 4);
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let in_one = |house| {
            in_one_house(rounds / houses + u64::from(house < rounds % houses), &|| {
                proof.progress(done.fetch_add(1, Ordering::Relaxed) + 1, rounds * (STEPS.len() as u64 + 5));
            })
        };
        let houses: Vec<_> = (0..houses).map(|house| scope.spawn(move || in_one(house))).collect();
        Some(houses.into_iter().map(|kills| kills.join().unwrap()).sum())
    })
}

fn in_one_house(rounds: u64, progress: &dyn Fn()) -> u64 {
    let plan = Plan { database: None, more: "", edge: None };
    let mut house = House::open(&plan, &backend::start());
    let cleo = house.person("Cleo Martín", "cleo@example.org");
    let tokens: Vec<_> = STEPS.iter().map(|_| house.invite(&cleo)).collect();
    let house = house;
    let mut kills = 0;

    // The enrolment: the invitation's one certificate is never lost.
    for (step, token) in STEPS.iter().zip(&tokens) {
        let machine = Machine { house: &house, folder: house.path(&format!("machine-{step}")) };
        let act = machine.enrolment(token);
        let act: Vec<&str> = act.iter().map(String::as_str).collect();
        let killed = machine.strike(&act, step);
        assert_eq!(killed, *step != "agent.none", "{step}");
        if machine.pair().is_some() {
            machine.check_usable(step);
        }
        let again = machine.run(&act);
        assert!(again.status.success(), "{step}: {}", text(&again));
        machine.check_goes_on(step);
        kills += u64::from(killed);
    }
    let issued = house.get(&format!("/certificates?person_id={cleo}&limit=200"));
    assert_eq!(issued["items"].as_array().unwrap().len(), STEPS.len(), "one for each invitation");

    // The renewal, at every step.
    let machine = Machine { house: &house, folder: house.path("machine-agent.none") };
    for round in 0..rounds {
        for step in STEPS {
            let when = format!("{step}, round {round}");
            let killed = machine.strike(&["renew"], step);
            assert_eq!(killed, step != "agent.none", "{when}");
            machine.check_usable(&when);
            machine.check_goes_on(&when);
            kills += u64::from(killed);
            progress();
        }
    }

    // And at any moment in between.
    let began = Instant::now();
    assert!(machine.run(&["renew"]).status.success());
    let whole = began.elapsed();
    for round in 0..5 * rounds {
        let mut child = machine.agent(&["renew"], "").stderr(Stdio::null()).spawn().unwrap();
        std::thread::park_timeout(whole.mul_f64((round * 7 % 20) as f64 / 20.0));
        let _ = child.kill();
        kills += u64::from(child.wait().unwrap().signal() == Some(SIGKILL));
        machine.check_usable(&format!("killed, round {round}"));
        machine.check_goes_on(&format!("killed, round {round}"));
        progress();
    }
    kills
}

const SIGKILL: i32 = 9;

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
