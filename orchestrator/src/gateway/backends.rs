//! The servers behind one client, or behind all clients that need no session: kept running, and what they list.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use futures::future::join_all;
use rmcp::model::{
    ExtensionCapabilities, Prompt, Resource, ResourceTemplate, ServerCapabilities, SubscriptionFilter, Tool,
};
use serde::Serialize;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::policy::Policy;
use crate::catalogue::{BUILT_IN, BYTES_PER_TOKEN, COST_REPORT, Unavailable, unique_name};
use crate::fleet::child::Child;
use crate::fleet::member::Member;
use crate::fleet::relay::{Change, List};
use crate::fleet::{Fleet, bytes_of};

/// Longest that a client waits for servers that are just starting; what comes later is told as a change.
const READY_MAX: Duration = Duration::from_secs(5);

/// How often it is looked whether a server died, or may be started again.
const WATCH_EVERY: Duration = Duration::from_millis(500);

/// How long one look at a server may take.
const WATCH_PATIENCE: Duration = Duration::from_millis(50);

/// Most prompts, resources and templates of one server, each.
const ITEMS_MAX: usize = 5_000;

/// Servers, and what they list.
pub(crate) struct Backends {
    pub(crate) fleet: Arc<Fleet>,
    policy: Arc<Policy>,
    tools: Shelf<Tools>,
    prompts: Shelf<Prompts>,
    resources: Shelf<Resources>,
    watch: AbortHandle,
}

struct Shelf<T> {
    list: List,
    kept: RwLock<Option<(u64, Arc<T>)>>,
}

/// The tools of all servers, under the names that the host sees.
pub(crate) struct Tools {
    pub(crate) listed: Vec<Tool>,
    routes: HashMap<String, Route>,
    pub(crate) unavailable: Vec<Unavailable>,
    /// What the definitions cost a model in every request, estimated.
    pub(crate) tokens: usize,
}

/// Where a tool is.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) member: usize,
    /// As its server lists it.
    pub(crate) tool: Arc<Tool>,
}

/// The prompts of all servers: by name the server and its own name for it.
#[derive(Default)]
pub(crate) struct Prompts {
    pub(crate) listed: Vec<Prompt>,
    pub(crate) routes: HashMap<String, (usize, String)>,
}

/// The resources and templates of all servers.
#[derive(Default)]
pub(crate) struct Resources {
    pub(crate) listed: Vec<Resource>,
    pub(crate) templates: Vec<ResourceTemplate>,
    routes: HashMap<String, usize>,
    template_routes: Vec<(String, usize)>,
    with_resources: Vec<usize>,
}

impl Backends {
    /// Begins to start the servers of `fleet`.
    pub(crate) fn new(fleet: Fleet, policy: Arc<Policy>) -> Arc<Self> {
        let fleet = Arc::new(fleet);
        let watch = tokio::spawn(watch(Arc::downgrade(&fleet))).abort_handle();
        Arc::new(Self {
            fleet,
            policy,
            tools: Shelf::new(List::Tools),
            prompts: Shelf::new(List::Prompts),
            resources: Shelf::new(List::Resources),
            watch,
        })
    }

    /// Returns a server, started where it does not run.
    pub(crate) async fn child(&self, member: usize) -> Result<Arc<Child>, String> {
        let member = &self.fleet.members()[member];
        let child = self.fleet.connected(member).await?;
        follow(&child);
        Ok(child)
    }

    /// Returns every server that is ready, after a while at most; with the reason where one is not.
    async fn ready(&self) -> Vec<(Arc<Member>, Result<Arc<Child>, String>)> {
        join_all(self.fleet.members().iter().map(|member| async {
            // In a task of its own: a server that needs longer goes on starting.
            let (fleet, starting) = (Arc::clone(&self.fleet), Arc::clone(member));
            let started = tokio::spawn(async move {
                let child = fleet.connected(&starting).await?;
                follow(&child);
                starting.announced.store(true, Ordering::SeqCst);
                Ok::<_, String>(child)
            });
            let child = match timeout(READY_MAX, started).await {
                Ok(Ok(child)) => child,
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("{} is still starting", member.spec.name)),
            };
            (Arc::clone(member), child)
        }))
        .await
    }

    /// Returns what the servers can do together, as far as they are ready.
    pub(crate) async fn capabilities(&self) -> ServerCapabilities {
        let mut all = least_capabilities();
        for (_, child) in self.ready().await {
            let Ok(child) = child else { continue };
            let capabilities = child.capabilities();
            all.completions = all.completions.or(capabilities.completions);
            all.logging = all.logging.or(capabilities.logging);
            if let Some(extensions) = capabilities.extensions {
                let known = extensions.into_iter().filter(|(name, _)| name == rmcp::model::TASKS_EXTENSION_ID);
                all.extensions.get_or_insert_with(ExtensionCapabilities::new).extend(known);
            }
        }
        all
    }

    /// Returns the tools that the host may see.
    pub(crate) async fn tools(&self) -> Arc<Tools> {
        match self.tools.kept(&self.fleet) {
            Some(kept) => kept,
            // Boxed, as is all that is rare: whoever asks for one tool would move what asks every server for its list.
            None => Box::pin(self.list_tools()).await,
        }
    }

    async fn list_tools(&self) -> Arc<Tools> {
        let generation = self.fleet.changes().generation(List::Tools);
        let mut tools = Tools { listed: Vec::new(), routes: HashMap::new(), unavailable: Vec::new(), tokens: 0 };
        let mut taken = BTreeSet::from([format!("{BUILT_IN}__{COST_REPORT}")]);
        let listings = join_all(self.ready().await.into_iter().map(|(member, child)| async move {
            let listed = match child {
                Ok(child) if child.capabilities().tools.is_some() => {
                    child.tools().await.map_err(|error| format!("{error:#}"))
                }
                Ok(_) => Ok(Vec::new()),
                Err(reason) => Err(reason),
            };
            (member, listed)
        }));
        for (number, (member, listed)) in listings.await.into_iter().enumerate() {
            let spec = &member.spec;
            match listed {
                Ok(listed) => {
                    for tool in listed.into_iter().filter(|tool| !(spec.own && tool.name == COST_REPORT)) {
                        let plain = spec.plain_names && !taken.contains(tool.name.as_ref());
                        let name = if plain {
                            taken.insert(tool.name.to_string());
                            tool.name.to_string()
                        } else {
                            unique_name(&spec.name, &tool.name, &mut taken)
                        };
                        if self.policy.permits(&name) {
                            tools.add(name, number, tool);
                        }
                    }
                }
                Err(reason) => tools.unavailable.push(Unavailable { server: spec.name.clone(), reason }),
            }
        }
        self.tools.keep(generation, tools)
    }

    /// Returns where the tool of this name is.
    pub(crate) async fn route(&self, name: &str) -> Option<Route> {
        self.tools().await.routes.get(name).cloned()
    }

    /// Returns a tool as it was listed last, without asking anybody.
    pub(crate) fn known_tool(&self, name: &str) -> Option<Tool> {
        let kept = self.tools.kept.read().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref()?.1.listed.iter().find(|tool| tool.name == name).cloned()
    }

    /// Returns the prompts.
    pub(crate) async fn prompts(&self) -> Arc<Prompts> {
        match self.prompts.kept(&self.fleet) {
            Some(kept) => kept,
            None => Box::pin(self.list_prompts()).await,
        }
    }

    async fn list_prompts(&self) -> Arc<Prompts> {
        let generation = self.fleet.changes().generation(List::Prompts);
        let mut prompts = Prompts::default();
        let mut taken = BTreeSet::new();
        for (number, (member, child)) in self.ready().await.into_iter().enumerate() {
            let Ok(child) = child else { continue };
            if child.capabilities().prompts.is_none() {
                continue;
            }
            for mut prompt in listed(&member.spec.name, child.peer.list_all_prompts()).await {
                let own_name = prompt.name.clone();
                if member.spec.plain_names && !taken.contains(&own_name) {
                    taken.insert(own_name.clone());
                } else {
                    prompt.name = unique_name(&member.spec.name, &own_name, &mut taken);
                }
                prompts.routes.insert(prompt.name.clone(), (number, own_name));
                prompts.listed.push(prompt);
            }
        }
        self.prompts.keep(generation, prompts)
    }

    /// Returns the resources and templates.
    pub(crate) async fn resources(&self) -> Arc<Resources> {
        match self.resources.kept(&self.fleet) {
            Some(kept) => kept,
            None => Box::pin(self.list_resources()).await,
        }
    }

    async fn list_resources(&self) -> Arc<Resources> {
        let generation = self.fleet.changes().generation(List::Resources);
        let mut resources = Resources::default();
        for (number, (member, child)) in self.ready().await.into_iter().enumerate() {
            let Ok(child) = child else { continue };
            if child.capabilities().resources.is_none() {
                continue;
            }
            resources.with_resources.push(number);
            for mut resource in listed(&member.spec.name, child.peer.list_all_resources()).await {
                resource.uri = resources.free_uri(&member, resource.uri);
                resources.routes.insert(resource.uri.clone(), number);
                resources.listed.push(resource);
            }
            for mut template in listed(&member.spec.name, child.peer.list_all_resource_templates()).await {
                if resources.template_routes.iter().any(|(known, _)| *known == template.uri_template) {
                    template.uri_template = format!("{}+{}", member.spec.name, template.uri_template);
                }
                resources.template_routes.push((template.uri_template.clone(), number));
                resources.templates.push(template);
            }
        }
        self.resources.keep(generation, resources)
    }

    /// Returns the servers that run.
    pub(crate) async fn running(&self) -> Vec<(usize, Arc<Child>)> {
        let mut running = Vec::new();
        for (number, member) in self.fleet.members().iter().enumerate() {
            if let Some(child) = member.running().await {
                running.push((number, child));
            }
        }
        running
    }

    /// Returns which server has `uri`, and its own name for it.
    pub(crate) async fn find_resource(&self, uri: &str) -> Option<(usize, String)> {
        let resources = self.resources().await;
        let own = |member: usize| {
            let prefix = format!("{}+", self.fleet.members()[member].spec.name);
            (member, uri.strip_prefix(prefix.as_str()).unwrap_or(uri).to_owned())
        };
        if let Some(member) = resources.routes.get(uri) {
            return Some(own(*member));
        }
        let by_name =
            self.fleet.members().iter().position(|member| {
                uri.strip_prefix(member.spec.name.as_str()).is_some_and(|rest| rest.starts_with('+'))
            });
        let by_template = || {
            let of = |template: &str| template.split('{').next().unwrap_or_default().to_owned();
            let mut matching = resources.template_routes.iter().filter(|(template, _)| uri.starts_with(&of(template)));
            matching.next().map(|(_, member)| *member)
        };
        // Where one server alone has resources, it is the one to say that there is no such.
        let alone = || <[usize; 1]>::try_from(resources.with_resources.as_slice()).ok().map(|[member]| member);
        by_name.or_else(by_template).or_else(alone).map(own)
    }

    /// Returns the name under which the host knows the resource `uri` of `server`.
    pub(crate) async fn shown_uri(&self, server: &str, uri: &str) -> String {
        let prefixed = format!("{server}+{uri}");
        if self.resources().await.routes.contains_key(&prefixed) { prefixed } else { uri.to_owned() }
    }
}

impl Drop for Backends {
    fn drop(&mut self) {
        self.watch.abort();
        let fleet = Arc::clone(&self.fleet);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { fleet.close().await });
        }
    }
}

impl Tools {
    fn add(&mut self, name: String, member: usize, tool: Tool) {
        let mut shown = tool.clone();
        shown.name = name.clone().into();
        let schema = bytes_of(&tool.input_schema.as_ref());
        let description = tool.description.as_ref().map_or(0, |text| text.len());
        self.tokens +=
            (name.len() + description + usize::try_from(schema).unwrap_or(usize::MAX)).div_ceil(BYTES_PER_TOKEN);
        self.routes.insert(name, Route { member, tool: Arc::new(tool) });
        self.listed.push(shown);
    }
}

impl Resources {
    /// The servers of the house all have the same addresses; of others, whoever comes later gets another one.
    fn free_uri(&self, member: &Member, uri: String) -> String {
        if member.spec.own || self.routes.contains_key(&uri) { format!("{}+{uri}", member.spec.name) } else { uri }
    }
}

impl<T> Shelf<T> {
    fn new(list: List) -> Self {
        Self { list, kept: RwLock::default() }
    }

    fn kept(&self, fleet: &Fleet) -> Option<Arc<T>> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref()
            .filter(|(generation, _)| *generation == fleet.changes().generation(self.list))
            .map(|(_, kept)| Arc::clone(kept))
    }

    fn keep(&self, generation: u64, value: T) -> Arc<T> {
        let value = Arc::new(value);
        *self.kept.write().unwrap_or_else(PoisonError::into_inner) = Some((generation, Arc::clone(&value)));
        value
    }
}

async fn listed<T: Serialize>(
    server: &str,
    listing: impl Future<Output = Result<Vec<T>, rmcp::service::ServiceError>>,
) -> Vec<T> {
    match timeout(READY_MAX, listing).await {
        Ok(Ok(mut items)) => {
            items.truncate(ITEMS_MAX);
            items
        }
        Ok(Err(error)) => {
            tracing::warn!(server, %error, "it does not list what it says it has");
            Vec::new()
        }
        Err(_) => {
            tracing::warn!(server, "it takes too long to list what it has");
            Vec::new()
        }
    }
}

/// Returns what the gateway can do whatever its servers can: one that comes later can still list something.
pub(crate) fn least_capabilities() -> ServerCapabilities {
    ServerCapabilities::builder()
        .enable_tools()
        .enable_tool_list_changed()
        .enable_prompts()
        .enable_prompts_list_changed()
        .enable_resources()
        .enable_resources_list_changed()
        .enable_resources_subscribe()
        .build()
}

/// Follows the lists of a server that tells changes only to those who ask.
fn follow(child: &Arc<Child>) {
    if !child.is_modern() || child.followed.swap(true, Ordering::SeqCst) {
        return;
    }
    let capabilities = child.capabilities();
    let wanted = |changed: Option<bool>| changed.filter(|changed| *changed);
    let filter = {
        let mut filter = SubscriptionFilter::new();
        filter.tools_list_changed = wanted(capabilities.tools.and_then(|tools| tools.list_changed));
        filter.prompts_list_changed = wanted(capabilities.prompts.and_then(|prompts| prompts.list_changed));
        filter.resources_list_changed = wanted(capabilities.resources.and_then(|resources| resources.list_changed));
        filter
    };
    if filter == SubscriptionFilter::new() {
        return;
    }
    let (peer, inbox) = (child.peer.clone(), Arc::clone(&child.inbox));
    tokio::spawn(async move {
        let mut subscription = match peer.listen(filter).await {
            Ok(subscription) => subscription,
            Err(error) => return tracing::debug!(%error, "the server does not tell changes"),
        };
        while let Ok(Some(notification)) = subscription.next().await {
            inbox.changed(&notification);
        }
    });
}

/// Starts every server, and again when it died, and says so.
async fn watch(fleet: Weak<Fleet>) {
    loop {
        let Some(fleet) = fleet.upgrade() else { return };
        for member in fleet.members() {
            // One that is just starting holds nobody up.
            let Ok(running) = timeout(WATCH_PATIENCE, member.running()).await else { continue };
            if running.is_some() {
                continue;
            }
            if member.announced.swap(false, Ordering::SeqCst) {
                tell_all(&fleet);
            }
            if member.pause().await.is_zero() {
                let (fleet, member) = (Arc::clone(&fleet), Arc::clone(member));
                tokio::spawn(async move {
                    match fleet.connected(&member).await {
                        Ok(child) => {
                            follow(&child);
                            if !member.announced.swap(true, Ordering::SeqCst) {
                                tell_all(&fleet);
                            }
                        }
                        Err(reason) => tracing::warn!(server = member.spec.name, reason, "its tools are hidden"),
                    }
                });
            }
        }
        drop(fleet);
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

fn tell_all(fleet: &Fleet) {
    for change in [Change::Tools, Change::Prompts, Change::Resources] {
        fleet.changes().tell(change);
    }
}
