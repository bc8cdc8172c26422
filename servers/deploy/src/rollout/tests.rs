//! Every way in which a rollout can be interrupted: the journal and the disk as a killed process leaves them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::fs::{CWD, Mode, openat};
use tempfile::TempDir;
use tollgate_shared::state_dir::StateDir;

use super::*;
use crate::config::{DeployConfig, EnvironmentConfig, HealthConfig};
use crate::environment::{Environment, Environments};
use crate::gate::{self, Facts, Verdict};
use crate::names::{ServiceName, Version};
use crate::store::StoreError;
use crate::tree::{self, FOLDER, Modes};

#[derive(Default)]
struct Recorder {
    charged: Mutex<Vec<String>>,
    decided: Mutex<Vec<String>>,
    is_cancelled: bool,
}

impl Caller for Recorder {
    fn is_cancelled(&self) -> bool {
        self.is_cancelled
    }

    fn progress(&self, _: usize, _: &str) {}

    fn charge(&self, sku: String) {
        self.charged.lock().unwrap().push(sku);
    }

    fn decide(&self, action: &str, _: &str, _: serde_json::Value) {
        self.decided.lock().unwrap().push(action.to_owned());
    }
}

struct World {
    dir: TempDir,
    store: Store,
    environment: Environment,
    service: ServiceName,
}

/// The health check of [`World::checked`]: a release is healthy unless it has a file `sick`.
fn checked() -> Option<HealthConfig> {
    let command = ["/bin/sh", "-c", "test ! -e sick"].map(str::to_owned).to_vec();
    Some(HealthConfig { command: Some(command), ..HealthConfig::default() })
}

impl World {
    fn new(health: Option<HealthConfig>, keep: u32) -> Self {
        let dir = TempDir::new().unwrap();
        let state_dir = StateDir::choose(Some(Path::new("state")), dir.path());
        let environment = EnvironmentConfig { health, keep: Some(keep), ..EnvironmentConfig::default() };
        let config = DeployConfig {
            environments: indexmap::IndexMap::from([("dev".to_owned(), environment)]),
            ..DeployConfig::default()
        };
        let environments = Environments::new(&config, dir.path(), state_dir.path()).unwrap();
        let environment = environments.find("dev").unwrap().clone();
        Self { dir, store: Store::new(state_dir), environment, service: ServiceName::parse("shop").unwrap() }
    }

    fn checked() -> Self {
        Self::new(checked(), 5)
    }

    /// The store as another process opens it.
    fn restart(&mut self) {
        self.store = Store::new(StateDir::choose(Some(Path::new("state")), self.dir.path()));
    }

    fn artifact(&self, content: &str) -> Artifact {
        let path = self.dir.path().join("dist").join(content.replace('/', "-"));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("content"), content).unwrap();
        if content.starts_with("sick") {
            fs::write(path.join("sick"), "").unwrap();
        }
        let folder = openat(CWD, &path, FOLDER, Mode::empty()).unwrap();
        let tree = tree::read(&folder, Modes::Artifact, &[], &|| false).unwrap();
        Artifact { folder, tree, unpacked: None }
    }

    fn permitted(&self, version: &str, artifact: &Artifact) -> Permitted {
        let new = NewDeployment {
            kind: Kind::Deploy,
            environment: "dev".into(),
            service: self.service.clone(),
            version: Version::parse(version).unwrap(),
            digest: artifact.tree.digest,
            artifact_digest: artifact.tree.digest,
            configuration: None,
            folder: self.folder().display().to_string(),
            previous: None,
            agent: "tester".into(),
            task_id: None,
        };
        match gate::judge(&self.environment, new, &Facts::default()).unwrap() {
            Verdict::Permitted(permitted) => permitted,
            Verdict::NeedsApproval(_) => panic!("dev needs no approval"),
        }
    }

    async fn turn(&self) -> Turn {
        Turn::take(&self.store, &self.environment, &self.service).await.unwrap()
    }

    async fn deploy(&self, version: &str, content: &str) -> Result<RolledOut, Refusal> {
        let turn = self.turn().await;
        let artifact = self.artifact(content);
        let permitted = self.permitted(version, &artifact);
        let caller: Arc<dyn Caller> = Arc::new(Recorder::default());
        roll_out(&self.store, &turn, &caller, &permitted, Some(artifact)).await
    }

    /// Recovers as the next call of another process does.
    async fn recover(&mut self) -> Vec<String> {
        self.restart();
        let turn = self.turn().await;
        let caller = Recorder::default();
        recover(&self.store, &turn, &caller).await.unwrap();
        assert!(caller.charged.lock().unwrap().is_empty(), "what nobody asked for is not charged");
        caller.decided.lock().unwrap().clone()
    }

    fn folder(&self) -> PathBuf {
        self.environment.folder.path(&self.service)
    }

    fn current(&self) -> Option<String> {
        let link = fs::read_link(self.folder().join("current")).ok()?;
        assert!(self.folder().join(&link).join("content").exists(), "current leads to {}", link.display());
        Some(fs::read_to_string(self.folder().join("current/content")).unwrap())
    }

    fn names(&self, below: &str) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.folder().join(below))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    async fn states(&self) -> Vec<(String, State)> {
        let (records, _) = self.store.list(&Filter::default(), 100).await.unwrap();
        records.into_iter().rev().map(|record| (record.version.to_string(), record.state)).collect()
    }
}

/// Where a process is killed: after which steps of the journal and which effects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Killed {
    Begun,
    HalfCopied,
    Copied,
    LinkMade,
    Switched,
    Verifying,
    GaveUp,
    SwitchedBack,
}

impl Killed {
    const ALL: [Self; 8] = [
        Self::Begun,
        Self::HalfCopied,
        Self::Copied,
        Self::LinkMade,
        Self::Switched,
        Self::Verifying,
        Self::GaveUp,
        Self::SwitchedBack,
    ];
}

/// Does what `roll_out` does, up to where it is killed.
async fn interrupted(world: &World, version: &str, content: &str, killed: Killed) -> Record {
    let (store, turn) = (&world.store, world.turn().await);
    let artifact = world.artifact(content);
    let previous = match turn.directory.current().unwrap() {
        Current::Release(release) => Some(release),
        _ => None,
    };
    let new = NewDeployment { previous, ..world.permitted(version, &artifact).deployment().clone() };
    let record = store.begin(turn.fence, &new, "test").await.unwrap();
    if killed == Killed::Begun {
        return record;
    }
    let releases = world.folder().join("releases");
    if killed == Killed::HalfCopied {
        fs::create_dir(releases.join(format!(".incoming-{}", record.id))).unwrap();
        fs::write(releases.join(format!(".incoming-{}/content", record.id)), "hal").unwrap();
        return record;
    }
    turn.directory.add(&artifact.tree, &artifact.folder, &record.release, &record.id, &|| false).unwrap();
    if killed == Killed::Copied {
        return record;
    }
    if killed == Killed::LinkMade {
        symlink(format!("releases/{}", record.release), world.folder().join(format!(".current-{}", record.id)))
            .unwrap();
        return record;
    }
    turn.directory.switch(Some(&record.release), &record.id).unwrap();
    if killed == Killed::Switched {
        return record;
    }
    let record = store.step(turn.fence, &record, Event::Switch, None).await.unwrap();
    if killed == Killed::Verifying {
        return record;
    }
    let record = store.step(turn.fence, &record, Event::GiveUp, Some("sick")).await.unwrap();
    if killed == Killed::GaveUp {
        return record;
    }
    turn.directory.switch(record.previous.as_ref(), &record.id).unwrap();
    record
}

fn expected(killed: Killed) -> State {
    match killed {
        Killed::Verifying | Killed::GaveUp | Killed::SwitchedBack => State::RolledBack,
        _ => State::Failed,
    }
}

#[tokio::test]
async fn interrupted_upgrade_is_undone_once() {
    for killed in Killed::ALL {
        let mut world = World::checked();
        world.deploy("1", "one").await.unwrap();
        interrupted(&world, "2", "two", killed).await;
        assert_eq!(world.recover().await, ["recovered"], "{killed:?}");
        assert_eq!(world.current().as_deref(), Some("one"), "{killed:?}");
        let expected = [("1".to_owned(), State::Live), ("2".to_owned(), expected(killed))];
        assert_eq!(world.states().await, expected, "{killed:?}");
        assert!(world.names("releases").iter().all(|name| !name.starts_with('.')), "{killed:?}");
        assert_eq!(world.names(""), ["current", "releases"], "{killed:?}");
        assert!(world.recover().await.is_empty(), "{killed:?}: a second time");
        // Nothing stands in the way of trying again.
        world.deploy("2", "two").await.unwrap();
        assert_eq!(world.current().as_deref(), Some("two"), "{killed:?}");
    }
}

#[tokio::test]
async fn interrupted_first_release_leaves_nothing_current() {
    for killed in Killed::ALL {
        let mut world = World::checked();
        interrupted(&world, "1", "one", killed).await;
        world.recover().await;
        assert_eq!(world.current(), None, "{killed:?}");
        assert_eq!(world.states().await, [("1".to_owned(), expected(killed))], "{killed:?}");
    }
}

#[tokio::test]
async fn without_a_health_check_what_is_current_is_completed() {
    let mut world = World::new(None, 5);
    world.deploy("1", "one").await.unwrap();
    interrupted(&world, "2", "two", Killed::Verifying).await;
    world.recover().await;
    assert_eq!(world.current().as_deref(), Some("two"));
    assert_eq!(world.states().await, [("1".to_owned(), State::Superseded), ("2".to_owned(), State::Live)]);
}

#[tokio::test]
async fn recovery_that_is_interrupted_itself_ends_the_same() {
    // It dies after having led `current` back, before it could write that down.
    for killed in [Killed::Switched, Killed::Verifying, Killed::GaveUp] {
        let mut world = World::checked();
        world.deploy("1", "one").await.unwrap();
        let record = interrupted(&world, "2", "two", killed).await;
        let turn = world.turn().await;
        if killed == Killed::Verifying {
            world.store.step(turn.fence, &record, Event::GiveUp, None).await.unwrap();
        }
        undo_switch(&turn, &record).await.unwrap();
        drop(turn);
        world.recover().await;
        assert_eq!(world.current().as_deref(), Some("one"), "{killed:?}");
        assert_eq!(world.states().await[1].1, expected(killed), "{killed:?}");
    }
}

#[tokio::test]
async fn what_somebody_else_made_current_is_left_alone() {
    for killed in Killed::ALL {
        let mut world = World::checked();
        world.deploy("0", "zero").await.unwrap();
        world.deploy("1", "one").await.unwrap();
        let zero = world.names("releases").into_iter().find(|name| name.starts_with("0-")).unwrap();
        interrupted(&world, "2", "two", killed).await;
        fs::remove_file(world.folder().join("current")).unwrap();
        symlink(format!("releases/{zero}"), world.folder().join("current")).unwrap();
        world.recover().await;
        assert_eq!(world.current().as_deref(), Some("zero"), "{killed:?}");
        assert_eq!(world.states().await[2].1, State::Failed, "{killed:?}");
    }
}

#[tokio::test]
async fn previous_release_that_is_gone_is_not_made_current() {
    let mut world = World::checked();
    let one = world.deploy("1", "one").await.unwrap().record.release;
    interrupted(&world, "2", "two", Killed::Verifying).await;
    fs::remove_dir_all(world.folder().join("releases").join(one.as_str())).unwrap();
    world.recover().await;
    assert_eq!(world.current(), None);
    assert_eq!(world.states().await[1].1, State::Failed);
}

#[tokio::test]
async fn unfinished_deployment_elsewhere_is_not_guessed_at() {
    let mut world = World::checked();
    interrupted(&world, "1", "one", Killed::Verifying).await;
    world.environment.folder =
        crate::environment::ServiceFolder::parse(&world.dir.path().join("elsewhere/{service}"), world.dir.path())
            .unwrap();
    world.restart();
    let turn = world.turn().await;
    let refusal = recover(&world.store, &turn, &Recorder::default()).await.unwrap_err();
    assert_eq!(refusal.code, "target_moved");
}

#[tokio::test]
async fn unhealthy_release_is_rolled_back_and_charged() {
    let world = World::checked();
    world.deploy("1", "one").await.unwrap();
    let turn = world.turn().await;
    let artifact = world.artifact("sick");
    let permitted = world.permitted("2", &artifact);
    let recorder = Arc::new(Recorder::default());
    let caller: Arc<dyn Caller> = recorder.clone();
    let refusal = roll_out(&world.store, &turn, &caller, &permitted, Some(artifact)).await.unwrap_err();
    assert_eq!((refusal.code, refusal.outcome), ("health_check_failed", Outcome::Failed));
    assert_eq!(refusal.detail["state"], "rolled_back");
    assert_eq!(world.current().as_deref(), Some("one"));
    assert_eq!(*recorder.charged.lock().unwrap(), ["deploy.dev"]);
    assert_eq!(*recorder.decided.lock().unwrap(), ["rolled_back"]);
    assert_eq!(world.states().await, [("1".to_owned(), State::Live), ("2".to_owned(), State::RolledBack)]);
}

#[tokio::test]
async fn call_taken_back_before_the_switch_has_no_effect() {
    let world = World::checked();
    world.deploy("1", "one").await.unwrap();
    let turn = world.turn().await;
    let artifact = world.artifact("two");
    let permitted = world.permitted("2", &artifact);
    let recorder = Arc::new(Recorder { is_cancelled: true, ..Recorder::default() });
    let caller: Arc<dyn Caller> = recorder.clone();
    let refusal = roll_out(&world.store, &turn, &caller, &permitted, Some(artifact)).await.unwrap_err();
    assert_eq!(refusal.outcome, Outcome::Cancelled);
    assert!(recorder.charged.lock().unwrap().is_empty());
    assert_eq!(world.current().as_deref(), Some("one"));
    assert_eq!(world.states().await[1].1, State::Cancelled);
    assert_eq!(world.names("releases").len(), 1);
}

#[tokio::test]
async fn artifact_that_changes_before_it_is_copied_is_not_released() {
    let world = World::checked();
    world.deploy("1", "one").await.unwrap();
    // Longer, shorter, and of the same length, which only reading the copy tells.
    for content in ["two and more", "t", "TWO"] {
        let turn = world.turn().await;
        let artifact = world.artifact("two");
        let permitted = world.permitted("2", &artifact);
        fs::write(world.dir.path().join("dist/two/content"), content).unwrap();
        let recorder = Arc::new(Recorder::default());
        let caller: Arc<dyn Caller> = recorder.clone();
        let refusal = roll_out(&world.store, &turn, &caller, &permitted, Some(artifact)).await.unwrap_err();
        assert_eq!(refusal.code, "artifact_changed", "{content}");
        assert!(recorder.charged.lock().unwrap().is_empty());
        assert_eq!(world.current().as_deref(), Some("one"));
        assert_eq!(world.names("releases").len(), 1);
    }
}

#[tokio::test]
async fn damaged_release_is_replaced_when_it_is_deployed_again() {
    let world = World::checked();
    let one = world.deploy("1", "one").await.unwrap().record.release;
    world.deploy("2", "two").await.unwrap();
    fs::write(world.folder().join("releases").join(one.as_str()).join("content"), "evil").unwrap();
    world.deploy("1", "one").await.unwrap();
    assert_eq!(world.current().as_deref(), Some("one"));
    assert_eq!(world.names("releases").len(), 2);
}

#[tokio::test]
async fn old_releases_go_but_never_what_can_be_returned_to() {
    let world = World::new(checked(), 2);
    for number in 1..=4 {
        world.deploy(&number.to_string(), &format!("release {number}")).await.unwrap();
    }
    let versions = |names: Vec<String>| names.iter().map(|name| name[..1].to_owned()).collect::<Vec<_>>();
    assert_eq!(versions(world.names("releases")), ["3", "4"]);
    // Many unhealthy ones do not push the healthy out.
    for number in 5..=8 {
        world.deploy(&number.to_string(), &format!("sick {number}")).await.unwrap_err();
    }
    assert_eq!(versions(world.names("releases")), ["3", "4"]);
    assert_eq!(world.current().as_deref(), Some("release 4"));
    // What nobody deployed here is nobody's to remove.
    fs::create_dir(world.folder().join("releases/9-abcdefabcdef")).unwrap();
    world.deploy("5b", "release 5").await.unwrap();
    assert_eq!(versions(world.names("releases")), ["4", "5", "9"]);
}

#[tokio::test]
async fn current_release_is_not_discarded_whoever_asks() {
    let world = World::checked();
    let one = world.deploy("1", "one").await.unwrap().record.release;
    let two = world.deploy("2", "two").await.unwrap().record.release;
    let turn = world.turn().await;
    let removed = turn.directory.discard(&BTreeSet::from([one.clone(), two]), "test").unwrap();
    assert_eq!(removed, [one]);
    assert_eq!(world.current().as_deref(), Some("two"));
}

#[tokio::test]
async fn second_turn_is_refused_while_the_first_lasts() {
    let world = World::checked();
    let first = world.turn().await;
    let refusal = Turn::take(&world.store, &world.environment, &world.service).await.unwrap_err();
    assert_eq!(refusal.code, "deployment_in_progress");
    assert!(Turn::take_if_free(&world.store, &world.environment, &world.service).await.unwrap().is_none());
    drop(first);
    world.turn().await;
}

#[tokio::test]
async fn process_that_lost_its_turn_cannot_write() {
    let world = World::checked();
    let turn = world.turn().await;
    let artifact = world.artifact("one");
    let permitted = world.permitted("1", &artifact);
    let record = world.store.begin(turn.fence, permitted.deployment(), "test").await.unwrap();
    let stale = turn.fence;
    drop(turn);
    let newer = world.turn().await;
    let stepped = world.store.step(stale, &record, Event::Switch, None).await;
    assert!(matches!(stepped, Err(StoreError::Fenced)), "{stepped:?}");
    // And not two at a time, whoever asks.
    let second = world.store.begin(newer.fence, permitted.deployment(), "test").await.unwrap_err();
    assert_eq!(Refusal::from(second).code, "deployment_in_progress");
    let illegal = world.store.step(newer.fence, &record, Event::Pass, None).await;
    assert!(matches!(illegal, Err(StoreError::Illegal(_))), "{illegal:?}");
    assert_eq!(world.states().await, [("1".to_owned(), State::Deploying)]);
}

#[tokio::test]
async fn folders_that_were_replaced_by_links_are_not_followed() {
    let world = World::checked();
    world.deploy("1", "one").await.unwrap();
    let outside = TempDir::new().unwrap();
    let (folder, aside) = (world.folder(), world.dir.path().join("aside"));
    for name in ["releases", ""] {
        let victim = if name.is_empty() { folder.clone() } else { folder.join(name) };
        fs::rename(&victim, &aside).unwrap();
        symlink(outside.path(), &victim).unwrap();
        assert_eq!(world.take_code().await, "target_failed", "{name}");
        fs::remove_file(&victim).unwrap();
        fs::rename(&aside, &victim).unwrap();
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    // `current` is replaced, never followed.
    fs::remove_file(folder.join("current")).unwrap();
    fs::create_dir(folder.join("current")).unwrap();
    assert_eq!(world.deploy("2", "two").await.unwrap_err().code, "target_not_ours");
    fs::remove_dir(folder.join("current")).unwrap();
    symlink(outside.path(), folder.join("current")).unwrap();
    assert_eq!(world.deploy("2", "two").await.unwrap_err().code, "target_not_ours");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

impl World {
    async fn take_code(&self) -> &'static str {
        Turn::take(&self.store, &self.environment, &self.service).await.unwrap_err().code
    }
}
