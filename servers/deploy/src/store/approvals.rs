//! What people were asked to agree to, and what they answered.

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{Connection, Row, Sqlite, Transaction};

use super::{
    AWAITING_MAX, Fence, NewDeployment, Record, Store, StoreError, by_id, check_fence, insert, malformed, record, step,
};
use crate::approval::terms::Seal;
use crate::deployment::{DeploymentEvent, DeploymentState};
use crate::names::ReleaseName;

/// Most votes on one request: more people than can be asked.
const VOTES_MAX: i64 = 64;

/// A request for approval, as it is recorded.
#[derive(Clone, Debug)]
pub struct Request {
    /// The deployment that is asked for.
    pub record: Record,
    /// What makes it another request than the next.
    pub seal: Seal,
    /// The bytes to be signed, as they were when it was asked for.
    pub terms: String,
    /// The artifact's path, as it was asked for.
    pub artifact: Option<String>,
    /// The requester's role.
    pub role: Option<String>,
    /// The configuration, as it was asked for.
    pub configuration: Option<String>,
    /// Who agreed, as recorded.
    pub votes: Vec<Vote>,
}

/// A recorded agreement; to be verified before it is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote {
    /// Who, as recorded.
    pub person: String,
    /// The key's fingerprint, as recorded.
    pub fingerprint: String,
    /// The signature.
    pub signature: String,
}

/// A request that is to be recorded.
#[derive(Clone, Debug)]
pub struct NewRequest<'a> {
    /// What is asked for.
    pub deployment: &'a NewDeployment,
    /// What makes it another request than the next.
    pub seal: &'a Seal,
    /// The bytes to be signed.
    pub terms: &'a str,
    /// The artifact's path.
    pub artifact: Option<&'a str>,
    /// The requester's role.
    pub role: Option<&'a str>,
    /// The configuration.
    pub configuration: Option<&'a str>,
}

const OPEN: &str =
    "SELECT deployment_with_reason.*, terms, artifact, role, configuration, nonce, approval_request.requested_at AS asked_at,
         expires_at, used_at
     FROM deployment_with_reason JOIN approval_request ON deployment_id = id
     WHERE state IN ('awaiting_approval', 'approved')";

impl Store {
    /// Returns the present, which is never before what is recorded already: a clock that goes back revives nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn now(&self) -> Result<Timestamp, StoreError> {
        let mut open = self.open().await?;
        let last: Option<String> =
            sqlx::query_scalar("SELECT max(updated_at) FROM deployment").fetch_one(open.get()?).await?;
        let now = Timestamp::now();
        Ok(last.and_then(|last| last.parse().ok()).map_or(now, |last: Timestamp| now.max(last)))
    }

    /// Returns the open requests that ask for the same as `new`, on the same behalf.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn requests_for(&self, new: &NewDeployment) -> Result<Vec<Request>, StoreError> {
        let mut open = self.open().await?;
        let mut transaction = open.get()?.begin().await?;
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "{OPEN} AND environment = ? AND service = ? AND kind = ? AND version = ? AND digest = ? AND agent = ?
             AND task_id IS ? ORDER BY number"
        )))
        .bind(&new.environment)
        .bind(new.service.as_str())
        .bind(new.kind.as_str())
        .bind(new.version.as_str())
        .bind(new.digest.to_string())
        .bind(&new.agent)
        .bind(&new.task_id)
        .fetch_all(&mut *transaction)
        .await?;
        requests(&mut transaction, &rows).await
    }

    /// Returns the open requests, the oldest first, and how many there are.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn open_requests(&self, limit: u32) -> Result<Vec<Request>, StoreError> {
        let mut open = self.open().await?;
        let mut transaction = open.get()?.begin().await?;
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!("{OPEN} ORDER BY number LIMIT ?")))
            .bind(limit)
            .fetch_all(&mut *transaction)
            .await?;
        requests(&mut transaction, &rows).await
    }

    /// Returns the open request of this deployment.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn open_request(&self, id: &str) -> Result<Option<Request>, StoreError> {
        let mut open = self.open().await?;
        let mut transaction = open.get()?.begin().await?;
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!("{OPEN} AND id = ?")))
            .bind(id)
            .fetch_all(&mut *transaction)
            .await?;
        Ok(requests(&mut transaction, &rows).await?.pop())
    }

    /// Records that people are asked, after what waited too long in the same environment has ended.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; then nothing was recorded.
    pub async fn ask(&self, new: &NewRequest<'_>, reason: &str) -> Result<Record, StoreError> {
        let environment = &new.deployment.environment;
        let mut open = self.open().await?;
        let mut transaction = open.begin().await?;
        let waiting: Vec<(String, Option<String>)> = sqlx::query_as(
            "SELECT id, expires_at FROM deployment LEFT JOIN approval_request ON deployment_id = id
             WHERE state IN ('awaiting_approval', 'approved') AND environment = ? ORDER BY number",
        )
        .bind(environment)
        .fetch_all(&mut *transaction)
        .await?;
        let mut count = 0;
        for (id, expires_at) in waiting {
            // One without a request was recorded before there was a way to approve.
            let expires_at = expires_at.and_then(|at| at.parse::<Timestamp>().ok());
            if expires_at.is_none_or(|at| at <= new.seal.requested_at) {
                step(&mut transaction, &id, DeploymentEvent::Expire, Some("nobody agreed in time"), Fence(0)).await?;
            } else {
                count += 1;
            }
        }
        if count >= AWAITING_MAX {
            // What expired stays open for a moment longer; it counts for nothing.
            return Err(StoreError::TooManyAwaiting(environment.clone()));
        }
        insert(&mut transaction, &new.seal.id, new.deployment).await?;
        sqlx::query(
            "INSERT INTO approval_request (deployment_id, terms, artifact, role, configuration, nonce, requested_at,
                 expires_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&new.seal.id)
        .bind(new.terms)
        .bind(new.artifact)
        .bind(new.role)
        .bind(new.configuration)
        .bind(&new.seal.nonce)
        .bind(new.seal.requested_at.to_string())
        .bind(new.seal.expires_at.to_string())
        .execute(&mut *transaction)
        .await?;
        // Nobody holds a turn: it has no effect yet.
        step(&mut transaction, &new.seal.id, DeploymentEvent::Validate, None, Fence(0)).await?;
        step(&mut transaction, &new.seal.id, DeploymentEvent::AwaitApproval, Some(reason), Fence(0)).await?;
        let record = by_id(&mut transaction, &new.seal.id).await?.ok_or(StoreError::Fenced)?;
        transaction.commit().await?;
        Ok(record)
    }

    /// Ends a deployment that has not begun: it expired, was cancelled, denied or voided.
    ///
    /// # Errors
    ///
    /// [`StoreError`], also when it has begun or ended meanwhile.
    pub async fn end_unbegun(&self, id: &str, event: DeploymentEvent, reason: &str) -> Result<Record, StoreError> {
        let mut open = self.open().await?;
        let mut transaction = open.begin().await?;
        let record = by_id(&mut transaction, id).await?.ok_or_else(|| StoreError::ApprovalGone(id.to_owned()))?;
        if !matches!(record.state, DeploymentState::AwaitingApproval | DeploymentState::Approved) {
            return Err(StoreError::ApprovalGone(id.to_owned()));
        }
        step(&mut transaction, id, event, Some(reason), Fence(0)).await?;
        let record = by_id(&mut transaction, id).await?.ok_or(StoreError::Fenced)?;
        transaction.commit().await?;
        Ok(record)
    }

    /// Records that a person agreed to `terms`, and with `enough` that the deployment may begin.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; then nothing was recorded.
    pub async fn vote(&self, request: &Request, vote: &Vote, enough: Option<&str>) -> Result<Record, StoreError> {
        let id = &request.record.id;
        let gone = || StoreError::ApprovalGone(id.clone());
        let mut open = self.open().await?;
        let mut transaction = open.begin().await?;
        let record = by_id(&mut transaction, id).await?.ok_or_else(gone)?;
        let votes: i64 = sqlx::query_scalar("SELECT count(*) FROM approval_vote WHERE deployment_id = ?")
            .bind(id)
            .fetch_one(&mut *transaction)
            .await?;
        if !matches!(record.state, DeploymentState::AwaitingApproval | DeploymentState::Approved) || votes >= VOTES_MAX
        {
            return Err(gone());
        }
        sqlx::query(
            "INSERT INTO approval_vote (deployment_id, person, fingerprint, signature, at) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT DO NOTHING",
        )
        .bind(id)
        .bind(&vote.person)
        .bind(&vote.fingerprint)
        .bind(&vote.signature)
        .bind(Timestamp::now().to_string())
        .execute(&mut *transaction)
        .await?;
        if let Some(reason) = enough
            && record.state == DeploymentState::AwaitingApproval
        {
            step(&mut transaction, id, DeploymentEvent::Approve, Some(reason), Fence(0)).await?;
        }
        let record = by_id(&mut transaction, id).await?.ok_or(StoreError::Fenced)?;
        transaction.commit().await?;
        Ok(record)
    }

    /// Begins an approved deployment and uses its approval up, in one step: of two that try, one is refused.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; then nothing was recorded.
    pub async fn begin_approved(
        &self,
        fence: Fence,
        id: &str,
        terms: &str,
        previous: Option<&ReleaseName>,
        reason: &str,
    ) -> Result<Record, StoreError> {
        let gone = || StoreError::ApprovalGone(id.to_owned());
        let mut open = self.open().await?;
        let mut transaction = open.begin().await?;
        let record = by_id(&mut transaction, id).await?.ok_or_else(gone)?;
        check_fence(&mut transaction, &record.environment, &record.service, fence).await?;
        if !matches!(record.state, DeploymentState::AwaitingApproval | DeploymentState::Approved) {
            return Err(gone());
        }
        let used = sqlx::query(
            "UPDATE approval_request SET used_at = ? WHERE deployment_id = ? AND used_at IS NULL AND terms = ?",
        )
        .bind(Timestamp::now().to_string())
        .bind(id)
        .bind(terms)
        .execute(&mut *transaction)
        .await?;
        if used.rows_affected() != 1 {
            return Err(gone());
        }
        if record.state == DeploymentState::AwaitingApproval {
            step(&mut transaction, id, DeploymentEvent::Approve, Some(reason), fence).await?;
        }
        sqlx::query("UPDATE deployment SET previous = ? WHERE id = ?")
            .bind(previous.map(ReleaseName::as_str))
            .bind(id)
            .execute(&mut *transaction)
            .await?;
        step(&mut transaction, id, DeploymentEvent::Start, Some(reason), fence).await?;
        let record = by_id(&mut transaction, id).await?.ok_or(StoreError::Fenced)?;
        transaction.commit().await?;
        Ok(record)
    }
}

async fn requests(transaction: &mut Transaction<'_, Sqlite>, rows: &[SqliteRow]) -> Result<Vec<Request>, StoreError> {
    let mut requests = Vec::with_capacity(rows.len());
    for row in rows {
        let record = record(row)?;
        let instant = |column: &'static str| -> Result<Timestamp, StoreError> {
            row.try_get::<String, _>(column)?.parse().map_err(|_| malformed(&record.id, column))
        };
        let votes =
            sqlx::query("SELECT person, fingerprint, signature FROM approval_vote WHERE deployment_id = ? LIMIT 64")
                .bind(&record.id)
                .fetch_all(&mut **transaction)
                .await?;
        let votes = votes
            .iter()
            .map(|row| {
                Ok(Vote {
                    person: row.try_get("person")?,
                    fingerprint: row.try_get("fingerprint")?,
                    signature: row.try_get("signature")?,
                })
            })
            .collect::<Result<_, sqlx::Error>>()?;
        requests.push(Request {
            seal: Seal {
                id: record.id.clone(),
                nonce: row.try_get("nonce")?,
                requested_at: instant("asked_at")?,
                expires_at: instant("expires_at")?,
            },
            terms: row.try_get("terms")?,
            artifact: row.try_get("artifact")?,
            role: row.try_get("role")?,
            configuration: row.try_get("configuration")?,
            votes,
            record,
        });
    }
    Ok(requests)
}
