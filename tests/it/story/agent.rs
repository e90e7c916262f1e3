//! `wicketgate agent` against the running program, killed at every step: there is always a usable pair
//! on disk, and the next run goes on.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Instant;

use super::backend;
use super::device::Device;
use super::house::{DOOR, House, Plan, wicketgate};
use super::whole::run;
use crate::harness::{peers, wait_for};

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

/// Rounds of everything: 20 kills at every step are `PROVE_SCALE=10`.
fn rounds() -> u32 {
    2 * std::env::var("PROVE_SCALE").ok().and_then(|scale| scale.parse().ok()).unwrap_or(1)
}

/// A machine with the agent on it.
struct Machine<'a> {
    house: &'a House,
    folder: PathBuf,
}

impl Machine<'_> {
    /// The agent's command line; a hook that writes down which certificate it was run for.
    fn agent(&self, act: &[&str], crash_at: &str) -> std::process::Command {
        let hook = format!("echo \"$WICKETGATE_AGENT_SERIAL\" >> {}.hooks", self.folder.display());
        let mut command = wicketgate(&["agent"]);
        command.args(act).arg("--dir").arg(&self.folder).args(["--hook", &hook]);
        command.env("WICKETGATE_CRASH_AT", crash_at);
        command
    }

    /// Runs it; again when it comes too often for the door.
    fn run(&self, act: &[&str], crash_at: &str) -> Output {
        wait_for("a place at the door", || {
            let output = self.agent(act, crash_at).output().unwrap();
            (!String::from_utf8_lossy(&output.stderr).contains("429")).then_some(output)
        })
    }

    fn enrol(&self, token: &str, crash_at: &str) -> Output {
        let door = format!("https://{DOOR}:{}", self.house.https);
        let ca = self.house.path("authority.pem");
        let act = ["enrol", "--door", &door, "--invitation", token, "--name", "pump 7", "--ca"];
        self.run(&[&act[..], &[ca.to_str().unwrap()]].concat(), crash_at)
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
        let output = self.run(&["run", "--once"], "");
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

/// Whether the process ended as a power cut ends it.
fn was_killed(output: &Output) -> bool {
    output.status.signal().is_some()
}

#[test]
fn agent_kill() {
    if peers::peer("openssl").is_none() {
        return;
    }
    let plan = Plan { database: None, more: "", edge: None };
    let mut house = House::open(&plan, &backend::start());
    let cleo = house.person("Cleo Martín", "cleo@example.org");
    let tokens: Vec<_> = STEPS.iter().map(|_| house.invite(&cleo)).collect();
    let house = house;

    // The enrolment: the invitation's one certificate is never lost.
    for (step, token) in STEPS.iter().zip(&tokens) {
        let machine = Machine { house: &house, folder: house.path(&format!("machine-{step}")) };
        let killed = machine.enrol(token, step);
        assert_eq!(was_killed(&killed), *step != "agent.none", "{step}: {}", text(&killed));
        if machine.pair().is_some() {
            machine.check_usable(step);
        }
        let again = machine.enrol(token, "");
        assert!(again.status.success(), "{step}: {}", text(&again));
        machine.check_goes_on(step);
    }
    let issued = house.get(&format!("/certificates?person_id={cleo}&limit=200"));
    assert_eq!(issued["items"].as_array().unwrap().len(), STEPS.len(), "one for each invitation");

    // The renewal, at every step.
    let machine = Machine { house: &house, folder: house.path("machine-agent.none") };
    for round in 0..rounds() {
        for step in STEPS {
            let when = format!("{step}, round {round}");
            let killed = machine.run(&["renew"], step);
            assert_eq!(was_killed(&killed), step != "agent.none", "{when}: {}", text(&killed));
            machine.check_usable(&when);
            machine.check_goes_on(&when);
        }
    }

    // And at any moment in between.
    let began = Instant::now();
    assert!(machine.run(&["renew"], "").status.success());
    let whole = began.elapsed();
    for round in 0..5 * rounds() {
        let mut child = machine.agent(&["renew"], "").spawn().unwrap();
        std::thread::park_timeout(whole.mul_f64(f64::from(round * 7 % 20) / 20.0));
        let _ = child.kill();
        child.wait().unwrap();
        machine.check_usable(&format!("killed, round {round}"));
        machine.check_goes_on(&format!("killed, round {round}"));
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
