//! Statements that must not get through, and what is left as it was afterwards.

use tollgate_tests::corpus::POSTGRES;

use super::World;
use crate::database::corpora;

#[tokio::test]
async fn attacks_are_refused_by_a_role_that_could_do_anything() {
    let Some(world) = World::new().await else { return };
    let server = world.start();
    let before = world.state().await;
    let wrong = corpora::not_refused(&server, &POSTGRES.refused).await;
    assert_eq!(world.state().await, before);
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), POSTGRES.refused.len(), wrong.join("\n"));
    assert!(server.pollution().is_empty());
}

#[tokio::test]
async fn honest_statements_run_and_leave_nothing() {
    let Some(world) = World::new().await else { return };
    let server = world.start();
    let before = world.state().await;
    let wrong = corpora::not_allowed(&server, &POSTGRES.allowed).await;
    assert_eq!(world.state().await, before);
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), POSTGRES.allowed.len(), wrong.join("\n"));
}

/// What changes is seen: each of these, run behind the server's back, shows in the state.
#[tokio::test]
async fn changes_are_seen() {
    let Some(world) = World::new().await else { return };
    let mut before = world.state().await;
    for sql in [
        "UPDATE orders SET copies = 11 WHERE id = 1",
        "SELECT nextval('counter')",
        "SELECT lo_from_bytea(0, 'x')",
        "COMMENT ON TABLE book IS 'x'",
        "ALTER FUNCTION touch(int) STABLE",
        "CREATE SCHEMA x",
        "GRANT SELECT ON book TO PUBLIC",
    ] {
        world.run(sql).await;
        let after = world.state().await;
        assert_ne!(after, before, "{sql}");
        before = after;
    }
}
