//! That every question to the host is answered once.

use jiff::Timestamp;

use super::{Store, StoreError};

impl Store {
    /// Records that a question about the request `id` is asked, unless `most` were asked already.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn ask_host(&self, id: &str, nonce: &str, most: u32) -> Result<bool, StoreError> {
        let mut open = self.open().await?;
        let asked = sqlx::query(
            "INSERT INTO question (nonce, deployment_id, asked_at)
             SELECT ?1, ?2, ?3 WHERE (SELECT count(*) FROM question WHERE deployment_id = ?2) < ?4",
        )
        .bind(nonce)
        .bind(id)
        .bind(Timestamp::now().to_string())
        .bind(most)
        .execute(open.get()?)
        .await?;
        Ok(asked.rows_affected() == 1)
    }

    /// Records the answer to a question about the request `id`; of two answers, the second is `false`.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn hear_host(&self, id: &str, nonce: &str, answer: &str) -> Result<bool, StoreError> {
        let mut open = self.open().await?;
        let heard = sqlx::query(
            "UPDATE question SET answered_at = ?, answer = ?
             WHERE nonce = ? AND deployment_id = ? AND answered_at IS NULL",
        )
        .bind(Timestamp::now().to_string())
        .bind(answer)
        .bind(nonce)
        .bind(id)
        .execute(open.get()?)
        .await?;
        Ok(heard.rows_affected() == 1)
    }
}
