//! Many spenders over one state folder.

use proptest::prelude::*;
use tempfile::TempDir;
use tollgate_shared::price::Sku;
use tollgate_shared::receipt::ReceiptLine;

use super::*;

fn usd(text: &str) -> Money {
    text.parse().unwrap()
}

fn mills(count: u64) -> Money {
    usd("0.001").times(count)
}

fn intent(agent: &str, task: Option<&str>, estimate: Money) -> Intent {
    Intent {
        server: "shop".into(),
        tool: "buy".into(),
        identity: Identity {
            agent: Agent { name: agent.into(), role: None },
            task_id: task.map(str::to_owned),
            call_id: Some(EntryId::generate().to_string()),
        },
        started_at: Timestamp::now(),
        estimate: Estimate { least: estimate, most: estimate },
    }
}

fn receipt(intent: &Intent, amount: Money) -> NewEntry {
    let lines = vec![ReceiptLine { sku: Sku::new("shop.buy"), quantity: 1, unit_price: amount, amount }];
    NewEntry::receipt(&Receipt {
        id: EntryId::generate(),
        server: intent.server.clone(),
        tool: intent.tool.clone(),
        amount,
        currency: Currency::Usd,
        lines,
        cached: false,
        saved: Money::ZERO,
        outcome: Outcome::Ok,
        code: None,
        duration_ms: 1,
        agent: intent.identity.agent.clone(),
        task_id: intent.identity.task_id.clone(),
        call_id: intent.identity.call_id.clone(),
        started_at: intent.started_at,
    })
    .unwrap()
}

struct House {
    folder: TempDir,
    limits: BudgetConfig,
}

impl House {
    fn new(limits: BudgetConfig) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), limits }
    }

    fn state_dir(&self) -> StateDir {
        StateDir::choose(None, self.folder.path())
    }

    /// A ledger and budgets as one more process has them.
    fn spender(&self) -> (Ledger, Budgets) {
        (Ledger::new(self.state_dir()), Budgets::new(self.limits.clone(), self.state_dir()))
    }
}

fn exceeded(result: Result<Reserved, BudgetError>) -> Exceeded {
    match result {
        Err(BudgetError::Exceeded(exceeded)) => exceeded,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn each_limit_refuses_what_does_not_fit_it_and_takes_what_does() {
    let house = House::new(BudgetConfig {
        per_call_usd: Some(usd("1")),
        per_task_usd: Some(usd("2")),
        per_agent_usd: Some(usd("3")),
        per_day_usd: Some(usd("4")),
    });
    let (ledger, budgets) = house.spender();
    let spend = async |agent, task, amount: &str| {
        let intent = intent(agent, task, usd(amount));
        let reserved = budgets.reserve(&ledger, intent.clone()).await;
        if reserved.is_ok() {
            ledger.append(vec![receipt(&intent, usd(amount))]).await.unwrap();
        }
        reserved
    };
    assert_eq!(exceeded(spend("a", None, "1.001").await).scope, Scope::Call);
    spend("a", Some("T"), "1").await.unwrap();
    spend("a", Some("T"), "1").await.unwrap();
    let refused = exceeded(spend("b", Some("T"), "0.001").await);
    assert_eq!((refused.scope, refused.name.as_str(), refused.spent_usd), (Scope::Task, "T", usd("2")));
    spend("a", Some("U"), "1").await.unwrap();
    assert_eq!(exceeded(spend("a", Some("V"), "0.001").await).scope, Scope::Agent);
    spend("a", Some("V"), "0").await.unwrap();
    spend("b", None, "1").await.unwrap();
    assert_eq!(exceeded(spend("c", None, "0.001").await).scope, Scope::Day);
}

#[tokio::test]
async fn a_warning_is_given_once_at_four_fifths() {
    let house = House::new(BudgetConfig { per_task_usd: Some(usd("1")), ..BudgetConfig::default() });
    let mut warnings = Vec::new();
    for amount in ["0.79", "0.01", "0.01", "0.1"] {
        let (ledger, budgets) = house.spender();
        let intent = intent("a", Some("T"), usd(amount));
        let reserved = budgets.reserve(&ledger, intent.clone()).await.unwrap();
        warnings.push(reserved.warnings.len());
        ledger.append(vec![receipt(&intent, usd(amount))]).await.unwrap();
    }
    assert_eq!(warnings, [0, 1, 0, 0]);
}

#[tokio::test]
async fn what_a_dead_process_set_aside_is_given_up_with_one_receipt_and_a_living_ones_is_not() {
    let house = House::new(BudgetConfig { per_day_usd: Some(usd("1")), ..BudgetConfig::default() });
    let (dead_ledger, dead) = house.spender();
    let (ledger, budgets) = house.spender();
    dead.reserve(&dead_ledger, intent("dead", None, usd("0.9"))).await.unwrap();
    let refused = exceeded(budgets.reserve(&ledger, intent("a", None, usd("0.5"))).await);
    assert_eq!(refused.reserved_usd, usd("0.9"));
    // Its server lives on: it may still write the receipt.
    let owner = dead.owner_file(&dead_ledger).await.unwrap().unwrap();
    let server = std::fs::File::open(&owner).unwrap();
    server.lock_shared().unwrap();
    drop(dead);
    exceeded(budgets.reserve(&ledger, intent("a", None, usd("0.5"))).await);
    drop(server);
    // Another test may start a process just now, which has the open file until it runs its program.
    while std::fs::File::open(&owner).unwrap().try_lock().is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    let (other_ledger, other) = house.spender();
    let (one, two) = tokio::join!(
        budgets.reserve(&ledger, intent("a", None, usd("0.5"))),
        other.reserve(&other_ledger, intent("b", None, usd("0.5")))
    );
    one.unwrap();
    two.unwrap();
    let mut reader = ledger.reader().await.unwrap().unwrap();
    let receipts: Vec<Receipt> = futures::TryStreamExt::try_collect(reader.receipts(None)).await.unwrap();
    assert_eq!(receipts.len(), 1, "{receipts:?}");
    assert_eq!((receipts[0].code.as_deref(), receipts[0].agent.name.as_str()), (Some("caller_died"), "dead"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_finds_a_dead_process_at_the_same_moment_is_not_refused() {
    for _ in 0..20 {
        let house = House::new(BudgetConfig { per_day_usd: Some(usd("1")), ..BudgetConfig::default() });
        let (dead_ledger, dead) = house.spender();
        dead.reserve(&dead_ledger, intent("dead", None, usd("0.9"))).await.unwrap();
        let owner = dead.owner_file(&dead_ledger).await.unwrap().unwrap();
        let spenders: Vec<(Ledger, Budgets)> = (0..4).map(|_| house.spender()).collect();
        for (ledger, budgets) in &spenders {
            budgets.reserve(ledger, intent("a", None, Money::ZERO)).await.unwrap();
        }
        drop(dead);
        // Another test may start a process just now, which has the open file until it runs its program.
        while std::fs::File::open(&owner).unwrap().try_lock().is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        let calls = spenders.into_iter().map(|(ledger, budgets)| {
            tokio::spawn(async move { budgets.reserve(&ledger, intent("a", None, usd("0.25"))).await })
        });
        for call in futures::future::join_all(calls).await {
            call.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn a_receipt_that_a_dead_process_wrote_is_counted_and_not_written_again() {
    let house = House::new(BudgetConfig { per_day_usd: Some(usd("1")), ..BudgetConfig::default() });
    let (dead_ledger, dead) = house.spender();
    let spent = intent("dead", None, usd("0.9"));
    dead.reserve(&dead_ledger, spent.clone()).await.unwrap();
    dead_ledger.append(vec![receipt(&spent, usd("0.4"))]).await.unwrap();
    drop(dead);
    let (ledger, budgets) = house.spender();
    budgets.reserve(&ledger, intent("a", None, usd("0.6"))).await.unwrap();
    assert_eq!(exceeded(budgets.reserve(&ledger, intent("a", None, usd("0.001"))).await).spent_usd, usd("0.4"));
}

#[tokio::test]
async fn another_ledger_in_the_place_of_the_old_one_is_counted_anew() {
    let house = House::new(BudgetConfig { per_day_usd: Some(usd("1")), ..BudgetConfig::default() });
    let (ledger, budgets) = house.spender();
    for _ in 0..2 {
        let spent = intent("a", None, usd("0.9"));
        budgets.reserve(&ledger, spent.clone()).await.unwrap();
        ledger.append(vec![receipt(&spent, usd("0.9"))]).await.unwrap();
        exceeded(budgets.reserve(&ledger, intent("a", None, usd("0.2"))).await);
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", ledger.path().display()));
        }
        // Whoever writes next makes another.
        ledger.append(vec![receipt(&intent("a", None, Money::ZERO), Money::ZERO)]).await.unwrap();
    }
}

#[tokio::test]
async fn a_metered_call_gets_what_is_left_when_its_most_does_not_fit() {
    let house = House::new(BudgetConfig {
        per_call_usd: Some(usd("0.5")),
        per_day_usd: Some(usd("0.6")),
        ..BudgetConfig::default()
    });
    let (ledger, budgets) = house.spender();
    let metered = || {
        let mut intent = intent("a", None, Money::ZERO);
        intent.estimate = Estimate { least: usd("0.003"), most: usd("15") };
        intent
    };
    assert_eq!(budgets.reserve(&ledger, metered()).await.unwrap().amount, usd("0.5"));
    assert_eq!(budgets.reserve(&ledger, metered()).await.unwrap().amount, usd("0.1"));
    assert_eq!(exceeded(budgets.reserve(&ledger, metered()).await).scope, Scope::Day);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("TOLLGATE_BUDGET_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(6)
    ))]

    /// Sixteen agents at once, each with connections of its own as a process has them, calls that cost up to what was
    /// estimated, callers that die between setting aside and paying: no limit is ever passed, and none starves.
    #[test]
    fn sixteen_agents_never_spend_a_cent_too_much(
        task_limit in 50u64..400, agent_limit in 30u64..200, day_limit in 100u64..800,
        calls in prop::collection::vec(prop::collection::vec((1u64..40, 0u64..=100, 0u8..20), 8), 16),
    ) {
        let limits = BudgetConfig {
            per_call_usd: Some(mills(35)),
            per_task_usd: Some(mills(task_limit)),
            per_agent_usd: Some(mills(agent_limit)),
            per_day_usd: Some(mills(day_limit)),
        };
        let house = House::new(limits.clone());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
        let (refused, spent) = runtime.block_on(async {
            let agents = calls.into_iter().enumerate().map(|(number, calls)| {
                let (ledger, mut budgets) = house.spender();
                let (state_dir, limits) = (house.state_dir(), limits.clone());
                tokio::spawn(async move {
                    let (agent, task) = (format!("agent-{number}"), format!("T-{}", number % 3));
                    let mut refused = 0;
                    for (price, share, fate) in calls {
                        let intent = intent(&agent, Some(&task), mills(price));
                        match budgets.reserve(&ledger, intent.clone()).await {
                            Ok(_) if fate == 0 => budgets = Budgets::new(limits.clone(), state_dir.clone()),
                            Ok(_) => {
                                tokio::task::yield_now().await;
                                ledger.append(vec![receipt(&intent, mills(price * share / 100))]).await.unwrap();
                            }
                            Err(BudgetError::Exceeded(_)) => refused += 1,
                            Err(error) => panic!("{error}"),
                        }
                    }
                    refused
                })
            });
            let refused: u64 = futures::future::join_all(agents).await.into_iter().map(|refused| refused.unwrap()).sum();
            let (ledger, _) = house.spender();
            let mut reader = ledger.reader().await.unwrap().unwrap();
            let receipts: Vec<Receipt> = futures::TryStreamExt::try_collect(reader.receipts(None)).await.unwrap();
            let total = |of: &dyn Fn(&Receipt) -> bool| receipts.iter().filter(|receipt| of(receipt)).map(|r| r.amount).sum::<Money>();
            let mut spent = vec![(total(&|_| true), mills(day_limit))];
            for number in 0..16 {
                spent.push((total(&|r| r.agent.name == format!("agent-{number}")), mills(agent_limit)));
                spent.push((total(&|r| r.task_id.as_deref() == Some(format!("T-{}", number % 3).as_str())), mills(task_limit)));
            }
            (refused, spent)
        });
        for (spent, limit) in &spent {
            prop_assert!(spent <= limit, "{spent} of {limit}");
        }
        prop_assert!(refused < 128, "everything was refused");
    }
}
