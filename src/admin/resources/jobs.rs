//! What happens by itself, and a button to have it happen now.

use poem_openapi::param::{Path, Query};
use poem_openapi::{Object, OpenApi};

use super::Tag;
use crate::admin::body::{Accepted, Shown};
use crate::admin::error::{Outcome, Problem};
use crate::admin::page::Page;
use crate::admin::services::Services;
use crate::admin::values::When;
use crate::jobs::JobView;
use crate::store::jobs as rows;

/// Runs that a listing reaches back to: the history is kept for a week.
const RUNS: u64 = 20_000;

/// Operations on jobs.
pub struct Api(pub Services);

/// One run of a job.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct JobRun {
    id: String,
    started_at: When,
    finished_at: Option<When>,
    outcome: Option<String>,
    detail: Option<String>,
}

/// What happens by itself.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct Job {
    name: String,
    /// A cron expression.
    schedule: String,
    description: String,
    /// Whether it runs at this moment.
    running: bool,
    last_run: Option<JobRun>,
    next_run_at: Option<When>,
}

/// A page of jobs.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct JobList {
    items: Vec<Job>,
    next_cursor: Option<String>,
}

/// A page of runs, newest first.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct JobRunList {
    items: Vec<JobRun>,
    next_cursor: Option<String>,
}

#[OpenApi(prefix_path = "/api/v1/", tag = "Tag::Jobs")]
impl Api {
    /// Every job
    #[oai(path = "/jobs", method = "get", operation_id = "listJobs")]
    async fn list(
        &self,
        #[oai(validator(minimum(value = "1"), maximum(value = "200")))] limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Outcome<Shown<JobList>> {
        let page = Page::<String>::read(&limit, &cursor)?;
        let mut all = self.0.jobs().list().await?;
        all.sort_by_key(|job| job.name);
        let fetched = page.slice(all, |job| job.name.to_owned());
        let (jobs, next_cursor) = page.cut(fetched, |job| job.name.to_owned());
        Ok(Shown::new(JobList { items: jobs.into_iter().map(Job::from).collect(), next_cursor }))
    }

    /// Asks a job to run soon
    #[oai(path = "/jobs/:name/runs", method = "post", operation_id = "runJob")]
    async fn run(&self, name: Path<String>) -> Outcome<Accepted> {
        match self.0.jobs().wake(&name.0) {
            true => Ok(Accepted::new()),
            false => Err(Problem::not_found("job")),
        }
    }

    /// The runs of a job, newest first
    #[oai(path = "/jobs/:name/runs", method = "get", operation_id = "listJobRuns")]
    async fn runs(
        &self,
        name: Path<String>,
        #[oai(validator(minimum(value = "1"), maximum(value = "200")))] limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Outcome<Shown<JobRunList>> {
        let page = Page::<String>::read(&limit, &cursor)?;
        let mut all = self.0.jobs().runs(&name.0, RUNS).await?.ok_or_else(|| Problem::not_found("job"))?;
        // Newest first: the page goes on below the last one.
        all.retain(|run| page.after.as_ref().is_none_or(|after| run.id < *after));
        let fetched = all.into_iter().take(usize::try_from(page.fetch()).unwrap_or(usize::MAX)).collect();
        let (runs, next_cursor) = page.cut(fetched, |run| run.id.clone());
        Ok(Shown::new(JobRunList { items: runs.into_iter().map(JobRun::from).collect(), next_cursor }))
    }
}

impl From<rows::JobRun> for JobRun {
    fn from(run: rows::JobRun) -> Self {
        Self {
            id: run.id,
            started_at: run.started_at.into(),
            finished_at: run.finished_at.map(When),
            outcome: run.outcome.map(|outcome| outcome.name().to_owned()),
            detail: run.detail,
        }
    }
}

impl From<JobView> for Job {
    fn from(job: JobView) -> Self {
        Self {
            name: job.name.to_owned(),
            schedule: job.schedule.to_owned(),
            description: job.description.to_owned(),
            running: job.running,
            last_run: job.last_run.map(JobRun::from),
            next_run_at: job.next_run_at.map(When),
        }
    }
}
