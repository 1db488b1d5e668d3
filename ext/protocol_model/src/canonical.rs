//! One state for all that differ in names only: tokens and process ids are compared for equality and nothing else, and
//! workers are alike. So they are renamed in an order of their own, which keeps the check small.

use crate::database::{Claim, History, ProcessId, Token};
use crate::protocol::State;
use crate::worker::Stage;

/// All processes that are neither on the list nor a worker's are one.
const GONE: ProcessId = ProcessId::MAX;

pub fn canonical(state: State) -> State {
    let workers = state.workers.len();
    let turned = (1..workers).map(|by| {
        let mut turned = state.clone();
        turned.workers.rotate_left(by);
        renamed(turned)
    });
    match turned.min() {
        Some(least) => least.min(renamed(state)),
        None => renamed(state),
    }
}

fn renamed(mut state: State) -> State {
    rename_processes(&mut state);
    rename_tokens(&mut state);
    let State { db, workers, late, .. } = &mut state;
    db.claims.sort_unstable();
    db.processes.sort_unstable();
    db.history.begun.sort_unstable();
    db.history.unrecorded.sort_unstable();
    late.sort_unstable();
    for worker in workers {
        worker.leases.sort_unstable();
        for answer in &mut worker.answers {
            answer.delivered.sort_unstable();
            answer.claims.sort_unstable();
        }
        worker.answers.sort_unstable();
    }
    state
}

/// Old names and the new ones that they have got.
struct Names {
    new: [u8; 256],
    given: u8,
}

impl Names {
    fn new() -> Self {
        Self { new: [GONE; 256], given: 0 }
    }

    fn give(&mut self, old: u8) {
        let new = &mut self.new[usize::from(old)];
        if *new == GONE {
            *new = self.given;
            self.given += 1;
        }
    }

    fn of(&self, old: u8) -> u8 {
        self.new[usize::from(old)]
    }
}

/// Workers' processes come first, then those on the list that no worker goes under any more.
fn rename_processes(state: &mut State) {
    let mut names = Names::new();
    for worker in &state.workers {
        names.give(worker.process);
    }
    let mut former: Vec<_> = state.db.processes.iter().filter(|process| names.of(process.id) == GONE).collect();
    if former.len() > 1 {
        former.sort_by_cached_key(|process| {
            let claims = state.db.claims.iter().filter(|claim| claim.process == process.id);
            (process.fresh, claims.map(|claim| (claim.position, claim.attempt)).collect::<Vec<_>>())
        });
    }
    for process in former {
        names.give(process.id);
    }
    state.db.next_process = names.given;
    for process in &mut state.db.processes {
        process.id = names.of(process.id);
    }
    for worker in &mut state.workers {
        worker.process = names.of(worker.process);
    }
    for claim in claims(state) {
        claim.process = names.of(claim.process);
    }
}

fn rename_tokens(state: &mut State) {
    let mut found: Vec<(u8, usize, Option<Stage>, Claim)> = Vec::with_capacity(8);
    found.extend(state.db.claims.iter().map(|claim| (0, 0, None, *claim)));
    for (number, worker) in state.workers.iter().enumerate() {
        found.extend(worker.leases.iter().map(|lease| (1, number, Some(lease.stage), lease.claim)));
        let coming = worker.answers.iter().flat_map(|answer| &answer.claims);
        found.extend(coming.map(|claim| (2, number, None, *claim)));
    }
    found.extend(state.late.iter().map(|(claim, outcome)| (3, 0, Some(Stage::Ended(*outcome)), *claim)));
    found.sort_unstable_by_key(|(table, holder, stage, claim)| {
        (claim.position, *table, *holder, *stage, claim.process, claim.attempt, claim.token)
    });

    let mut names = Names::new();
    for (.., claim) in found {
        names.give(claim.token);
    }
    state.db.next_token = names.given;
    let History { begun, unrecorded, .. } = &mut state.db.history;
    for tokens in [begun, unrecorded] {
        // Of a claim that nobody holds any more nothing can begin.
        tokens.retain(|token| names.of(*token) != Token::MAX);
        tokens.iter_mut().for_each(|token| *token = names.of(*token));
    }
    for claim in claims(state) {
        claim.token = names.of(claim.token);
    }
    for answer in state.workers.iter_mut().flat_map(|worker| &mut worker.answers) {
        // It may deliver what its worker does not hold any more: nothing will come of that.
        answer.delivered.retain(|token| names.of(*token) != Token::MAX);
        answer.delivered.iter_mut().for_each(|token| *token = names.of(*token));
    }
}

fn claims(state: &mut State) -> impl Iterator<Item = &mut Claim> {
    let held = state.workers.iter_mut().flat_map(|worker| {
        let leases = worker.leases.iter_mut().map(|lease| &mut lease.claim);
        leases.chain(worker.answers.iter_mut().flat_map(|answer| &mut answer.claims))
    });
    state.db.claims.iter_mut().chain(held).chain(state.late.iter_mut().map(|(claim, _)| claim))
}
