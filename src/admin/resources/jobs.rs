//! What happens by itself, and a button to have it happen now.

use poem_openapi::param::{Path, Query};
use poem_openapi::{Object, OpenApi};

use super::Tag;
use crate::admin::body::{Accepted, Shown};
use crate::admin::error::{Outcome, Problem};
use crate::admin::page::Page;
use crate::admin::services::{self, Services};
use crate::admin::values::When;

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
        let mut all = self.0.automation().jobs().await?;
        all.sort_by(|a, b| a.name.cmp(&b.name));
        let fetched = page.slice(all, |job| job.name.clone());
        let (jobs, next_cursor) = page.cut(fetched, |job| job.name.clone());
        Ok(Shown::new(JobList { items: jobs.into_iter().map(Job::from).collect(), next_cursor }))
    }

    /// Asks a job to run soon
    #[oai(path = "/jobs/:name/runs", method = "post", operation_id = "runJob")]
    async fn run(&self, name: Path<String>) -> Outcome<Accepted> {
        match self.0.automation().wake(&name.0).await? {
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
        let fetched = self.0.automation().runs(&name.0, page.after.clone(), page.fetch()).await?;
        let fetched = fetched.ok_or_else(|| Problem::not_found("job"))?;
        let (runs, next_cursor) = page.cut(fetched, |run| run.id.clone());
        Ok(Shown::new(JobRunList { items: runs.into_iter().map(JobRun::from).collect(), next_cursor }))
    }
}

impl From<services::JobRun> for JobRun {
    fn from(run: services::JobRun) -> Self {
        Self {
            id: run.id,
            started_at: run.started_at.into(),
            finished_at: run.finished_at.map(When),
            outcome: run.outcome,
            detail: run.detail,
        }
    }
}

impl From<services::JobStatus> for Job {
    fn from(job: services::JobStatus) -> Self {
        Self {
            name: job.name,
            schedule: job.schedule,
            description: job.description,
            running: job.running,
            last_run: job.last_run.map(JobRun::from),
            next_run_at: job.next_run_at.map(When),
        }
    }
}
