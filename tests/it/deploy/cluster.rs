//! A cluster on this machine: as much of the Kubernetes API as `kubectl` asks for to try, apply, watch and delete
//! Deployments and ConfigMaps, and a controller that replaces pods as Kubernetes does: the old ones stay until the new
//! ones are ready.
//!
//! An image with `missing` in its name never gets ready; one with `crashing` is given up by the controller.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::StreamExt;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Where the API lets nobody in: without TLS, kubectl sends no credentials that could tell one caller from another.
const CLOSED: &str = "/closed";

/// The namespace of everything here.
pub const NAMESPACE: &str = "shop-dev";

/// What may be written below `spec` of a Deployment.
const SPEC_FIELDS: [&str; 8] = [
    "minReadySeconds",
    "paused",
    "progressDeadlineSeconds",
    "replicas",
    "revisionHistoryLimit",
    "selector",
    "strategy",
    "template",
];

type Body = BoxBody<Bytes, Infallible>;
type Answer = Result<Value, (StatusCode, &'static str, String)>;

/// A running cluster.
pub struct Cluster {
    dir: TempDir,
    state: Arc<State>,
}

/// What is in it, and who waits for it to change.
struct State {
    objects: Mutex<Objects>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Objects {
    /// By path; each as the API answers it.
    all: BTreeMap<String, Value>,
    /// The images that have pods ready, by Deployment.
    ready: HashMap<String, String>,
    /// What was asked, in order.
    asked: Vec<String>,
    version: u64,
}

impl Cluster {
    /// Starts one.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State { objects: Mutex::default(), changed: watch::channel(0).0 });
        let dir = TempDir::new().unwrap();
        for (name, below) in [("kubeconfig", ""), ("of-a-stranger", CLOSED)] {
            let text = format!(
                "{{apiVersion: v1, kind: Config, clusters: [{{name: c, cluster: {{server: 'http://{address}{below}'}}}}], \
                 users: [{{name: u, user: {{}}}}], contexts: [{{name: here, context: {{cluster: c, user: u}}}}]}}"
            );
            fs::write(dir.path().join(name), text).unwrap();
        }
        let serving = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&serving);
                let answer = service_fn(move |request| {
                    let state = Arc::clone(&state);
                    async move { Ok::<_, Infallible>(answer(&state, request).await) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
            }
        });
        Self { dir, state }
    }

    /// Returns a kubeconfig with the context `here`: `kubeconfig`, or `of-a-stranger` that is not let in.
    pub fn kubeconfig(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Returns an object as it is: `deployments/shop`.
    pub fn object(&self, name: &str) -> Option<Value> {
        let objects = self.state.lock();
        objects.all.iter().find(|(path, _)| path.ends_with(&format!("/{name}"))).map(|(_, object)| object.clone())
    }

    /// Returns the image whose pods are ready.
    pub fn serves(&self, deployment: &str) -> Option<String> {
        self.state.lock().ready.get(deployment).cloned()
    }

    /// Takes what was asked since the last time: `PATCH deployments/shop dry`.
    pub fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().asked)
    }

    /// Waits until somebody watches Deployments.
    pub async fn is_watched(&self) {
        while !self.state.lock().asked.iter().any(|asked| asked.starts_with("WATCH")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap()
    }

    /// Changes the object at `path` and tells whoever watches.
    fn change(&self, path: &str, change: impl FnOnce(&mut Value)) {
        let mut objects = self.lock();
        objects.version += 1;
        let version = objects.version;
        if let Some(object) = objects.all.get_mut(path) {
            change(object);
            object["metadata"]["resourceVersion"] = json!(version.to_string());
        }
        drop(objects);
        self.changed.send_replace(version);
    }
}

async fn answer(state: &Arc<State>, request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let query: HashMap<String, String> = head
        .uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.replace("%3D", "=")))
        .collect();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    if path.starts_with(CLOSED) {
        return said(Err((StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized".to_owned())));
    }
    if let Some(found) = discovery(&path) {
        return said(Ok(found));
    }
    let is_watch = query.get("watch").is_some_and(|value| value == "true");
    let short = path.rsplit_once(&format!("/{NAMESPACE}/")).map_or(path.as_str(), |(_, name)| name);
    let verb = if is_watch { "WATCH" } else { head.method.as_str() };
    let dry = query.contains_key("dryRun");
    state.lock().asked.push(format!("{verb} {short}{}", if dry { " dry" } else { "" }));
    let only = query.get("fieldSelector").and_then(|selector| selector.strip_prefix("metadata.name="));
    if is_watch {
        let since = query.get("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or_default();
        return watched(state, format!("{path}/{}", only.unwrap_or_default()), since);
    }
    said(match head.method {
        Method::GET if path.ends_with("/deployments") => {
            let objects = state.lock();
            let items: Vec<_> = objects
                .all
                .iter()
                .filter(|(at, _)| at.starts_with(&path) && only.is_none_or(|name| at.ends_with(&format!("/{name}"))))
                .map(|(_, object)| object)
                .collect();
            Ok(json!({
                "kind": "DeploymentList", "apiVersion": "apps/v1", "items": items,
                "metadata": {"resourceVersion": objects.version.to_string()},
            }))
        }
        Method::GET => state.lock().all.get(&path).cloned().ok_or_else(|| not_found(short)),
        Method::PATCH => apply(state, &path, &head.headers["content-type"], &query, &body),
        Method::DELETE => {
            let name = short.rsplit('/').next().unwrap_or_default();
            state.lock().ready.remove(name);
            let removed = state.lock().all.remove(&path);
            removed
                .map(|_| json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
                .ok_or_else(|| not_found(short))
        }
        _ => Err((StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", head.method.to_string())),
    })
}

/// Server-side apply: what was applied before is replaced, with dry run nothing is.
fn apply(
    state: &Arc<State>,
    path: &str,
    content_type: &hyper::header::HeaderValue,
    query: &HashMap<String, String>,
    body: &[u8],
) -> Answer {
    let invalid = |reason: &str| Err((StatusCode::UNPROCESSABLE_ENTITY, "Invalid", reason.to_owned()));
    assert_eq!(content_type, "application/apply-patch+yaml", "only server-side apply is spoken here");
    assert_eq!(query.get("fieldManager").map(String::as_str), Some("tollgate"));
    let mut wanted: Value = serde_json::from_slice(body).unwrap();
    let before = state.lock().all.get(path).cloned();
    if wanted["kind"] == "Deployment" {
        let unknown =
            wanted["spec"].as_object().into_iter().flatten().find(|(field, _)| !SPEC_FIELDS.contains(&field.as_str()));
        if let Some((field, _)) = unknown.filter(|_| query["fieldValidation"] == "Strict") {
            let reason = format!("strict decoding error: unknown field \"spec.{field}\"");
            return Err((StatusCode::BAD_REQUEST, "BadRequest", reason));
        }
        let (labels, pods) = (&wanted["spec"]["selector"]["matchLabels"], &wanted["spec"]["template"]);
        let fits = |(name, value): (&String, &Value)| pods["metadata"]["labels"][name] == *value;
        if !labels.as_object().is_some_and(|labels| !labels.is_empty() && labels.iter().all(fits)) {
            return invalid("spec.template.metadata.labels: `selector` does not match template `labels`");
        }
        if !pods["spec"]["containers"][0]["image"].is_string() {
            return invalid("spec.template.spec.containers[0].image: Required value");
        }
        if before.as_ref().is_some_and(|before| before["spec"]["selector"] != wanted["spec"]["selector"]) {
            return invalid("spec.selector: Invalid value: field is immutable");
        }
    }
    let is_changed = before.as_ref().is_none_or(|before| before["spec"] != wanted["spec"]);
    let old = before.unwrap_or_else(|| json!({"metadata": {"generation": 0}, "status": {}}));
    let generation = old["metadata"]["generation"].as_u64().unwrap_or_default() + u64::from(is_changed);
    wanted["metadata"]["generation"] = json!(generation);
    wanted["metadata"]["uid"] = json!("1");
    wanted["metadata"]["resourceVersion"] = json!(state.lock().version.to_string());
    wanted["status"] = old["status"].clone();
    if query.contains_key("dryRun") {
        return Ok(wanted);
    }
    state.lock().all.insert(path.to_owned(), wanted.clone());
    state.change(path, |_| {});
    if wanted["kind"] == "Deployment" {
        tokio::spawn(control(Arc::clone(state), path.to_owned(), generation));
    }
    Ok(wanted)
}

/// What the controller does about generation `generation` of the Deployment at `path`, step by step.
async fn control(state: Arc<State>, path: String, generation: u64) {
    let Some(wanted) = state.lock().all.get(&path).cloned() else { return };
    let name = wanted["metadata"]["name"].as_str().unwrap().to_owned();
    let image = wanted["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned();
    let replicas = wanted["spec"]["replicas"].as_u64().unwrap_or(1);
    let was = if state.lock().ready.contains_key(&name) { replicas } else { 0 };
    let has_begun = json!({"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated"});
    let (gets_ready, gives_up) =
        (!image.contains("missing") && !image.contains("crashing"), image.contains("crashing"));
    let mut steps = vec![json!({
        "observedGeneration": generation, "replicas": was + 1, "updatedReplicas": 1,
        "availableReplicas": was, "conditions": [has_begun],
    })];
    if gets_ready {
        steps.push(json!({
            "observedGeneration": generation, "replicas": replicas, "updatedReplicas": replicas,
            "readyReplicas": replicas, "availableReplicas": replicas,
            "conditions": [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}],
        }));
    } else if gives_up {
        steps.push(json!({
            "observedGeneration": generation, "replicas": was + 1, "updatedReplicas": 1, "availableReplicas": was,
            "conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}],
        }));
    }
    for status in steps {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let is_newest = state.lock().all.get(&path).is_some_and(|now| now["metadata"]["generation"] == generation);
        if !is_newest {
            return;
        }
        if status["readyReplicas"].is_u64() {
            state.lock().ready.insert(name.clone(), image.clone());
        }
        state.change(&path, |object| object["status"] = status);
    }
}

/// Tells every change of one object, as lines.
fn watched(state: &Arc<State>, path: String, since: u64) -> Response<Body> {
    let state = Arc::clone(state);
    let changes = futures::stream::unfold((state.changed.subscribe(), since), move |(mut changed, since)| {
        let (state, path) = (Arc::clone(&state), path.clone());
        async move {
            loop {
                let now = state.lock().all.get(&path).cloned();
                let version = now.as_ref().and_then(|now| now["metadata"]["resourceVersion"].as_str()?.parse().ok());
                if let (Some(object), Some(version)) = (now, version.filter(|version| *version > since)) {
                    let line = format!("{}\n", json!({"type": "MODIFIED", "object": object}));
                    return Some((Ok(Frame::data(Bytes::from(line))), (changed, version)));
                }
                changed.changed().await.ok()?;
            }
        }
    });
    let body = BodyExt::boxed(StreamBody::new(changes.fuse()));
    Response::builder().header("content-type", "application/json").body(body).unwrap()
}

/// What `kubectl` asks to know which kinds there are and how their fields are checked.
fn discovery(path: &str) -> Option<Value> {
    let verbs = json!(["create", "delete", "get", "list", "patch", "update", "watch"]);
    let resource = |name: &str, kind: &str| json!({"name": name, "singularName": kind.to_lowercase(), "namespaced": true, "kind": kind, "verbs": verbs});
    let resources = |version: &str, name: &str, kind: &str| json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": [resource(name, kind)]});
    let openapi = |group: &str, kind: &str, at: &str| {
        let parameter = |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string"}});
        json!({
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": "v1.32.0"},
            "components": {"schemas": {}},
            "paths": {at: {"patch": {
                "responses": {},
                "parameters": [parameter("dryRun"), parameter("fieldValidation")],
                "x-kubernetes-action": "patch",
                "x-kubernetes-group-version-kind": {"group": group, "version": "v1", "kind": kind},
            }}},
        })
    };
    let version = json!({"groupVersion": "apps/v1", "version": "v1"});
    Some(match path {
        "/version" => json!({"major": "1", "minor": "32", "gitVersion": "v1.32.0"}),
        "/api" => json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}),
        "/apis" => json!({
            "kind": "APIGroupList", "apiVersion": "v1",
            "groups": [{"name": "apps", "versions": [version], "preferredVersion": version}],
        }),
        "/api/v1" => resources("v1", "configmaps", "ConfigMap"),
        "/apis/apps/v1" => resources("apps/v1", "deployments", "Deployment"),
        "/openapi/v3" => json!({"paths": {
            "api/v1": {"serverRelativeURL": "/openapi/v3/api/v1?hash=1"},
            "apis/apps/v1": {"serverRelativeURL": "/openapi/v3/apis/apps/v1?hash=1"},
        }}),
        "/openapi/v3/api/v1" => openapi("", "ConfigMap", "/api/v1/namespaces/{namespace}/configmaps/{name}"),
        "/openapi/v3/apis/apps/v1" => {
            openapi("apps", "Deployment", "/apis/apps/v1/namespaces/{namespace}/deployments/{name}")
        }
        _ => return None,
    })
}

fn not_found(what: &str) -> (StatusCode, &'static str, String) {
    (StatusCode::NOT_FOUND, "NotFound", format!("{what} not found"))
}

fn said(answer: Answer) -> Response<Body> {
    let (status, body) = match answer {
        Ok(body) => (StatusCode::OK, body),
        Err((status, reason, message)) => {
            let code = status.as_u16();
            let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message, "code": code});
            (status, body)
        }
    };
    let body = Full::new(Bytes::from(body.to_string())).boxed();
    Response::builder().status(status).header("content-type", "application/json").body(body).unwrap()
}
