//! How a scenario is played: everybody is started and must prove to pass on who the visitor is, then all are
//! measured in turn, round after round.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::Plan;
use super::certificates::Material;
use super::load::{self, Conditions, Load, Page, Sample};
use super::peers::{Place, Target};
use super::report::Report;
use super::scenario::{Contestant, Scenario};

/// What a warm-up takes.
const WARM_UP: Duration = Duration::from_millis(500);

/// What all scenarios stand on.
pub(crate) struct Stage<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) material: &'a Material,
    pub(crate) backend: SocketAddr,
    pub(crate) plan: &'a Plan,
}

impl Stage<'_> {
    pub(crate) async fn play(&self, scenario: &Scenario, report: &mut Report) -> Result<()> {
        let is_fresh = scenario.needs_fresh_processes();
        let mut running = Vec::new();
        if !is_fresh {
            for contestant in &scenario.contestants {
                running.push(self.start(contestant).await?);
            }
        }
        let pace = match scenario.pacemaker().and_then(|at| running.get(at)) {
            Some(target) => self.half_of(target).await?,
            None => f64::NAN,
        };
        // Round 0 warms up; a process that is measured only once needs none.
        for round in usize::from(is_fresh)..=self.plan.rounds {
            let mut order: Vec<usize> = (0..scenario.contestants.len()).collect();
            // Neighbours on the machine drift; alternating and reversing spreads that evenly.
            if round % 2 == 1 {
                order.reverse();
            }
            for at in order {
                let contestant = &scenario.contestants[at];
                let span = if round == 0 { WARM_UP } else { self.plan.span };
                let sample = match running.get(at) {
                    Some(target) => self.measure(target, contestant, span, pace).await,
                    None => {
                        let target = self.start(contestant).await?;
                        self.measure(&target, contestant, span, pace).await
                    }
                };
                let sample = sample.with_context(|| format!("{}: {}", scenario.name, contestant.name))?;
                eprintln!("round {round} {:<16} {:<26} {sample}", scenario.name, contestant.name);
                if round > 0 {
                    report.add(scenario.name, contestant.name, sample);
                }
            }
        }
        Ok(())
    }

    async fn start(&self, contestant: &Contestant) -> Result<Target> {
        let own = tempfile::tempdir_in(self.folder)?;
        let place = Place::new(self.folder, own, self.backend)?;
        let target = Target::start(contestant.kind, place).await.context(contestant.name)?;
        let seen = load::seen(&target, self.material).await.context(contestant.name)?;
        for header in contestant.kind.identity_headers() {
            let carries = |line: &str| {
                let (name, value) = line.split_once(':').unwrap_or_default();
                name.eq_ignore_ascii_case(header) && !value.trim().is_empty()
            };
            if !seen.lines().any(carries) {
                bail!("{} does not pass on {header}, but {seen}", contestant.name);
            }
        }
        Ok(target)
    }

    /// Half of the requests a second that a target can answer.
    async fn half_of(&self, target: &Target) -> Result<f64> {
        let all = Load::Kept(Page::Small);
        self.run(target, all, WARM_UP, f64::NAN).await?;
        Ok(self.run(target, all, self.plan.span, f64::NAN).await?.per_second() / 2.0)
    }

    async fn measure(
        &self,
        target: &Target,
        contestant: &Contestant,
        span: Duration,
        pace: f64,
    ) -> Result<Sample> {
        let sample = self.run(target, contestant.load, span, pace).await?;
        if target.forget_log()? == 0 && contestant.kind.logs() {
            bail!("it writes no access log");
        }
        Ok(sample)
    }

    async fn run(&self, target: &Target, load: Load, span: Duration, pace: f64) -> Result<Sample> {
        let conditions = Conditions { material: self.material, span, pace, idle: self.plan.idle };
        // On the heap: it is large, and every caller's own state would be as large.
        Box::pin(load::run(target, load, &conditions)).await
    }
}
