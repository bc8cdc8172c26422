//! The full-screen view: every task with its phase, retries and spend, and what happens, as it happens.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use ratatui::Frame;
use ratatui::crossterm::event::{self, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Table, TableState};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::told;
use crate::queue::alarm::Alarm;
use crate::queue::event::Follower;
use crate::queue::overview::{Glance, Totals};
use crate::queue::store::{Queue, QueueError};
use crate::queue::task::Status;
use crate::report::table::{printable, shorten};

/// How often it looks at least.
const EVERY: Duration = Duration::from_secs(1);

/// A look at a queue of a million tasks takes a second: it looks less often then, so that workers have the database.
const IDLE_TIMES: u32 = 4;

/// Most tasks that are shown.
const TASKS_MAX: i64 = 200;

/// Most events that are remembered.
const EVENTS_MAX: usize = 200;

/// What is shown.
#[derive(Default)]
pub(super) struct View {
    pub(super) tasks: Vec<Glance>,
    pub(super) totals: Totals,
    pub(super) alarms: Vec<Alarm>,
    pub(super) events: VecDeque<String>,
    /// Why the last look failed.
    pub(super) trouble: Option<String>,
    pub(super) now: Timestamp,
    selected: TableState,
}

/// Shows the queue until somebody presses q.
pub(super) async fn run(queue: &Queue, mut follower: Follower) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut keys = keys();
    let mut terminal = ratatui::try_init()?;
    let mut view = View::default();
    let ended = loop {
        if let Err(error) = terminal.draw(|frame| view.draw(frame)) {
            break Err(error.into());
        }
        let begun = Instant::now();
        // A database that does not answer keeps nobody here.
        let looked = tokio::select! {
            looked = view.look(queue, &mut follower) => looked,
            _ = terminate.recv() => break Ok(()),
            () = end(&mut keys) => break Ok(()),
        };
        view.trouble = looked.err().map(|error| error.to_string());
        let pause = EVERY.max(begun.elapsed() * IDLE_TIMES);
        if let Err(error) = terminal.draw(|frame| view.draw(frame)) {
            break Err(error.into());
        }
        let next = tokio::time::sleep(pause);
        tokio::pin!(next);
        let quit = loop {
            tokio::select! {
                () = &mut next => break false,
                _ = terminate.recv() => break true,
                key = keys.recv() => match key {
                    // The terminal is gone.
                    None => break true,
                    Some(Input::Key(key)) if is_end(key) => break true,
                    Some(input) => {
                        if let Input::Key(key) = input {
                            view.scroll(key.code);
                        }
                        if terminal.draw(|frame| view.draw(frame)).is_err() {
                            break true;
                        }
                    }
                },
            }
        };
        if quit {
            break Ok(());
        }
    };
    ratatui::try_restore()?;
    ended
}

/// What the terminal says.
enum Input {
    Key(KeyEvent),
    Resized,
}

/// Reads what the terminal says, which blocks, in a thread of its own.
fn keys() -> mpsc::Receiver<Input> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            let input = match event {
                event::Event::Key(key) if key.kind != KeyEventKind::Release => Input::Key(key),
                event::Event::Resize(..) => Input::Resized,
                _ => continue,
            };
            if sender.blocking_send(input).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Waits until somebody wants to leave, or the terminal is gone.
async fn end(keys: &mut mpsc::Receiver<Input>) {
    while let Some(input) = keys.recv().await {
        if matches!(input, Input::Key(key) if is_end(key)) {
            return;
        }
    }
}

fn is_end(key: KeyEvent) -> bool {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) || (control && matches!(key.code, KeyCode::Char('c' | 'd')))
}

impl View {
    async fn look(&mut self, queue: &Queue, follower: &mut Follower) -> Result<(), QueueError> {
        loop {
            let events = follower.next().await?;
            if events.is_empty() {
                break;
            }
            self.events.extend(events.iter().map(told));
            let surplus = self.events.len().saturating_sub(EVENTS_MAX);
            self.events.drain(..surplus);
        }
        self.tasks = queue.glance(TASKS_MAX).await?;
        self.totals = queue.totals().await?;
        self.alarms = queue.alarms().await?;
        self.now = Timestamp::from_millisecond(queue.now_ms().await?).unwrap_or_default();
        Ok(())
    }

    fn scroll(&mut self, key: KeyCode) {
        match key {
            KeyCode::Down | KeyCode::Char('j') => self.selected.select_next(),
            KeyCode::Up | KeyCode::Char('k') => self.selected.select_previous(),
            KeyCode::PageDown => self.selected.scroll_down_by(10),
            KeyCode::PageUp => self.selected.scroll_up_by(10),
            KeyCode::Home => self.selected.select_first(),
            KeyCode::End => self.selected.select_last(),
            _ => {}
        }
    }

    pub(super) fn draw(&mut self, frame: &mut Frame<'_>) {
        let head = self.head();
        let height = u16::try_from(head.len()).unwrap_or(u16::MAX);
        let [top, middle, bottom, foot] = Layout::vertical([
            Constraint::Length(height),
            Constraint::Fill(3),
            Constraint::Fill(2),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(Paragraph::new(head), top);

        let rows = self.tasks.iter().map(|glance| row(glance, self.now));
        let widths = [
            Constraint::Max(24),
            Constraint::Length(12),
            Constraint::Fill(2),
            Constraint::Length(7),
            Constraint::Length(18),
            Constraint::Length(6),
            Constraint::Fill(3),
        ];
        let names = ["task", "status", "phase", "retries", "spent", "since", "about"];
        let table = Table::new(rows, widths)
            .header(Row::new(names).style(Style::new().add_modifier(Modifier::DIM)))
            .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
            .block(Block::new().borders(Borders::TOP).title(" tasks "));
        frame.render_stateful_widget(table, middle, &mut self.selected);

        let room = usize::from(bottom.height.saturating_sub(1));
        let from = self.events.len().saturating_sub(room);
        let lines: Vec<Line<'_>> = self.events.range(from..).map(|event| Line::raw(event.as_str())).collect();
        let block = Block::new().borders(Borders::TOP).title(" what happens ");
        frame.render_widget(Paragraph::new(lines).block(block), bottom);
        frame.render_widget(Line::raw("q leaves · ↑ ↓ scroll · queue show TASK says more").dim(), foot);
    }

    fn head(&self) -> Vec<Line<'_>> {
        let mut spans = vec![Span::from("Tollgate").bold()];
        for (status, count) in &self.totals.counts {
            spans.push(Span::raw(format!("  {count} ")));
            spans.push(Span::styled(status.as_str(), Status::parse(status).map_or_else(Style::new, style)));
        }
        spans.push(Span::raw(format!("  ${} today (UTC)", self.totals.spent_today_usd.normalized())));
        let mut lines = vec![Line::from(spans)];
        for alarm in &self.alarms {
            let mark = if alarm.name.stops_work() { "STOPPED" } else { "ALERT" };
            let note = printable(&alarm.note);
            lines.push(Line::from(vec![Span::from(mark).bold().red(), Span::raw(format!(" {note}"))]));
        }
        if let Some(trouble) = &self.trouble {
            lines.push(Line::from(printable(trouble)).red());
        }
        lines
    }
}

fn row(glance: &Glance, now: Timestamp) -> Row<'static> {
    let entry = &glance.entry;
    let is_under_way = entry.status == Status::InProgress;
    let phase = if is_under_way { &glance.phase } else { &entry.reason };
    let spent = match entry.task.budget_usd {
        // A budget is of what was spent since a person last gave the task new attempts.
        Some(budget) => format!("${} of ${}", glance.spent_usd.normalized(), budget.0.normalized()),
        None => format!("${}", glance.cost_usd.normalized()),
    };
    let title = entry.task.title.as_deref().unwrap_or(&entry.task.description);
    Row::new(vec![
        Cell::from(shorten(&entry.task.id, 60)),
        Cell::from(Span::styled(entry.status.to_string(), style(entry.status))),
        Cell::from(shorten(phase, 200)),
        Cell::from(format!("{:>7}", (entry.attempts - 1).max(0))),
        Cell::from(spent),
        Cell::from(format!("{:>6}", since(now.as_second() - glance.updated_at.as_second()))),
        Cell::from(shorten(title.lines().next().unwrap_or_default(), 200)),
    ])
}

fn style(status: Status) -> Style {
    match status {
        Status::InProgress => Style::new().fg(Color::Cyan),
        Status::Completed => Style::new().fg(Color::Green),
        Status::Blocked => Style::new().fg(Color::Red),
        Status::NeedsPerson => Style::new().fg(Color::Yellow),
        _ => Style::new(),
    }
}

/// Returns how long ago something was, in the largest unit that fits.
fn since(seconds: i64) -> String {
    match seconds.max(0) {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3_600 => format!("{} min", seconds / 60),
        seconds @ 3_600..86_400 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    use super::*;
    use crate::queue::alarm::AlarmName;
    use crate::queue::store::Entry;
    use crate::queue::task::Task;

    fn glance(status: &str, title: &str, attempts: i64) -> Glance {
        let body = json!({"id": "BUG-7", "description": "d", "title": title, "status": status, "priority": "P2", "type": "bug",
            "budget_usd": "5"});
        let task: Task = serde_json::from_value(body.clone()).unwrap();
        let entry = Entry {
            body: body.as_object().unwrap().clone(),
            feature: None,
            status: task.status,
            task,
            created_at: Timestamp::UNIX_EPOCH,
            open_dependencies: 0,
            attempts,
            reason: "\u{1b}[2Jstuck".to_owned(),
            session: String::new(),
            place: String::new(),
            token: 1,
            worker: String::new(),
            lease_until: 0,
            lost: 0,
            cost_usd: "0".parse().unwrap(),
            spent_usd: "0".parse().unwrap(),
            branch: String::new(),
            commit: String::new(),
            routing: None,
            released: false,
            import: String::new(),
        };
        let (cost_usd, spent_usd) = ("9".parse().unwrap(), "1.20".parse().unwrap());
        let updated_at = Timestamp::from_second(1_000).unwrap();
        Glance { entry, phase: "verdict fail".to_owned(), cost_usd, spent_usd, updated_at }
    }

    fn drawn(view: &mut View, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| view.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..height).map(line).collect()
    }

    #[test]
    fn shows_tasks_alarms_and_events_and_obeys_none_of_them() {
        let mut view = View {
            tasks: vec![glance("in_progress", "Round \u{1b}[31mup", 3), glance("blocked", "x", 1)],
            totals: Totals { counts: vec![("blocked".to_owned(), 1)], spent_today_usd: "3.5".parse().unwrap() },
            alarms: vec![Alarm {
                name: AlarmName::DayCost,
                at: Timestamp::UNIX_EPOCH,
                note: "all tasks cost $101".to_owned(),
            }],
            events: (0..EVENTS_MAX).map(|number| format!("event {number}")).collect(),
            now: Timestamp::from_second(1_125).unwrap(),
            ..View::default()
        };
        let lines = drawn(&mut view, 120, 14);
        let text = lines.join("\n");
        assert!(lines[0].contains("1 blocked") && lines[0].contains("$3.5 today"), "{text}");
        assert_eq!(lines[1], "STOPPED all tasks cost $101");
        let under_way = lines.iter().find(|line| line.contains("in_progress")).unwrap();
        for part in ["BUG-7", "verdict fail", "2", "$1.2 of $5", "2 min", "Round  [31mup"] {
            assert!(under_way.contains(part), "{part}: {text}");
        }
        assert!(text.contains("stuck") && text.contains("event 199") && !text.contains("event 150"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
        assert!(lines[13].starts_with("q leaves"), "{text}");
        // No size of a terminal is too small to draw on.
        for (width, height) in [(1, 1), (10, 3), (300, 2), (5, 50)] {
            drawn(&mut view, width, height);
        }
    }

    #[test]
    fn leaves_by_its_keys_only() {
        let key = |code, modifiers| is_end(KeyEvent::new(code, modifiers));
        assert!(key(KeyCode::Char('q'), KeyModifiers::NONE) && key(KeyCode::Char('c'), KeyModifiers::CONTROL));
        assert!(!key(KeyCode::Char('c'), KeyModifiers::NONE) && !key(KeyCode::Down, KeyModifiers::NONE));
    }
}
