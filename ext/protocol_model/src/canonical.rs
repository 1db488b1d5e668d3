//! The canonical form of a state: states that differ only in names have the same one.
//!
//! Tokens and process ids are only compared for equality, and workers are interchangeable. Renaming them in a fixed
//! order keeps the number of states small.

use crate::database::{Claim, Database, Dispatch, History, Job, Owner, ProcessId, Sign, Token, GONE};
use crate::state::{Earlier, State};
use crate::worker::{Outcome, Stage, Worker};
use crate::workflow::Position;

pub fn canonical(mut state: State) -> State {
    if state.disturbances_left == 0 && state.earlier != Earlier::Past {
        state.earlier = Earlier::Never;
        (state.db.tokens.given, state.db.process_ids.given) = (None, None);
    }
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
    rename_owners(&mut state);
    rename_processes(&mut state);
    rename_tokens(&mut state);
    for db in databases(&mut state) {
        db.claims.sort_unstable();
        db.processes.sort_unstable();
        db.history.begun.sort_unstable();
        db.history.unrecorded.sort_unstable();
    }
    state.late.sort_unstable();
    state.jobs.sort_unstable();
    state.jobs.dedup();
    for worker in &mut state.workers {
        worker.leases.sort_unstable();
        for response in &mut worker.responses {
            response.delivered.sort_unstable();
            response.claims.sort_unstable();
        }
        worker.responses.sort_unstable();
    }
    state
}

/// The current database, and the remembered one.
fn databases(state: &mut State) -> impl Iterator<Item = &mut Database> {
    let remembered = match &mut state.earlier {
        Earlier::Remembered(db) => Some(&mut **db),
        Earlier::Never | Earlier::Any | Earlier::Past => None,
    };
    std::iter::once(&mut state.db).chain(remembered)
}

fn remembered(state: &State) -> Option<&Database> {
    match &state.earlier {
        Earlier::Remembered(db) => Some(db),
        Earlier::Never | Earlier::Any | Earlier::Past => None,
    }
}

/// Maps old names to new ones.
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
        if old != GONE && *new == GONE {
            *new = self.given;
            self.given += 1;
        }
    }

    fn of(&self, old: u8) -> u8 {
        self.new[usize::from(old)]
    }
}

/// Renames workers in their order; all that have ended share one name.
fn rename_owners(state: &mut State) {
    let mut names = Names::new();
    for worker in state.workers.iter().filter(|worker| worker.up) {
        names.give(worker.owner);
    }
    for worker in &mut state.workers {
        worker.owner = names.of(worker.owner);
    }
    for claim in claims(state) {
        claim.owner = names.of(claim.owner);
    }
}

/// What a database stores about a process.
type Traces = (Option<Sign>, Vec<(Position, u8, Owner, Option<Dispatch>)>);

fn traces(db: &Database, id: ProcessId) -> Traces {
    let claims = db.claims.iter().filter(|claim| claim.process == id);
    let mut claims: Vec<_> = claims.map(|claim| (claim.position, claim.attempt, claim.owner, claim.dispatch)).collect();
    claims.sort_unstable();
    (db.process(id).map(|process| process.sign), claims)
}

/// Renames workers' processes first, then former ones that are still registered, or that have a claim and an outcome
/// under way. All others share one name, as nothing compares them.
fn rename_processes(state: &mut State) {
    let mut names = Names::new();
    for worker in &state.workers {
        names.give(worker.process);
        if let Some(next) = worker.next_process {
            names.give(next);
        }
    }
    let earlier = remembered(state);
    let dbs = || std::iter::once(&state.db).chain(earlier);
    let listed = dbs().flat_map(|db| &db.processes).map(|process| process.id);
    let has_claim = |id: &ProcessId| dbs().flat_map(|db| &db.claims).any(|claim| claim.process == *id);
    let dispatching = || state.workers.iter().filter_map(|worker| worker.dispatching);
    let confirming = dispatching().map(|dispatching| dispatching.claim.process);
    let senders = state.late.iter().map(|(claim, _)| claim.process).chain(confirming).filter(has_claim);
    let mut former: Vec<_> = listed.chain(senders).filter(|id| *id != GONE && names.of(*id) == GONE).collect();
    if former.len() > 1 {
        former.sort_unstable();
        former.dedup();
        former.sort_by_cached_key(|id| {
            let late = state.late.iter().filter(|(claim, _)| claim.process == *id);
            let mut late: Vec<_> = late.map(|(claim, outcome)| (claim.position, claim.attempt, *outcome)).collect();
            late.sort_unstable();
            let confirms = state
                .workers
                .iter()
                .position(|worker| worker.dispatching.is_some_and(|dispatching| dispatching.claim.process == *id));
            (traces(&state.db, *id), earlier.map(|db| traces(db, *id)), late, confirms)
        });
    }
    for process in former {
        names.give(process);
    }
    for db in databases(state) {
        db.process_ids.next = names.given;
        for process in &mut db.processes {
            process.id = names.of(process.id);
        }
    }
    let State { db, workers, late, .. } = state;
    // A number that no worker uses is equivalent to a new one.
    let uses = |worker: &Worker, id: u8| {
        worker.process == id || worker.dispatching.is_some_and(|dispatching| dispatching.claim.process == id)
    };
    let is_in_use =
        |id: u8| workers.iter().any(|worker| uses(worker, id)) || late.iter().any(|(claim, _)| claim.process == id);
    for numbers in db.process_ids.given.iter_mut().chain([&mut db.process_ids.again]) {
        numbers.retain(|id| names.of(*id) != GONE && is_in_use(*id));
        numbers.iter_mut().for_each(|id| *id = names.of(*id));
    }
    for worker in &mut state.workers {
        worker.process = names.of(worker.process);
        worker.next_process = worker.next_process.map(|id| names.of(id));
    }
    for claim in claims(state) {
        claim.process = names.of(claim.process);
    }
}

/// Where a claim is held: kind of holder, worker, stage, and outcome.
type Place = (u8, usize, Option<Stage>, Option<Outcome>);

/// Other uses of a token: when it will repeat, whether its outcome is under way, whether history lists it as begun or
/// unrecorded, which step has it now and had it in the remembered state, and whether a job has it.
type Uses = (Option<usize>, bool, bool, bool, Option<Position>, Option<Position>, bool);

fn uses(state: &State, token: Token) -> Uses {
    let Database { tokens, history, .. } = &state.db;
    let mut again = tokens.given.iter().flatten().chain(&tokens.again);
    let claimed = |db: &Database| db.claim(token).map(|claim| claim.position);
    (
        again.position(|number| *number == token),
        state.workers.iter().any(|worker| worker.is_delivering(token)),
        history.begun.contains(&token),
        history.unrecorded.contains(&token),
        claimed(&state.db),
        remembered(state).and_then(claimed),
        state.jobs.iter().any(|job| job.token == token),
    )
}

/// Whether a job with this token may start: now, or when its token is drawn again, or after a return. All other jobs of
/// the same attempt share one name: they find no claim.
fn may_start(state: &State, token: Token) -> bool {
    let Database { tokens, .. } = &state.db;
    state.db.claim(token).is_some()
        || remembered(state).is_some_and(|db| db.claim(token).is_some())
        || tokens.given.iter().flatten().chain(&tokens.again).any(|number| *number == token)
}

fn rename_jobs_without_effect(state: &mut State) {
    for number in 0..state.jobs.len() {
        if !may_start(state, state.jobs[number].token) {
            state.jobs[number].token = GONE;
        }
    }
}

/// The claim of a job, as far as the job knows it.
fn claim_of(Job { token, position, attempt }: Job) -> Claim {
    Claim { token, process: GONE, position, attempt, owner: GONE, run: (position, attempt), dispatch: None }
}

fn rename_tokens(state: &mut State) {
    rename_jobs_without_effect(state);
    let mut found: Vec<(Place, Claim)> = Vec::with_capacity(8);
    for (number, worker) in state.workers.iter().enumerate() {
        found.extend(worker.leases.iter().map(|lease| ((1, number, Some(lease.stage), None), lease.claim)));
        let coming = worker.responses.iter().flat_map(|response| &response.claims);
        found.extend(coming.map(|claim| ((2, number, None, None), *claim)));
    }
    found.extend(state.late.iter().map(|(claim, outcome)| ((3, 0, None, Some(*outcome)), *claim)));
    let in_process = found.len();
    for (number, worker) in state.workers.iter().enumerate() {
        found.extend(worker.dispatching.map(|dispatching| ((5, number, None, None), dispatching.claim)));
    }
    found.extend(state.jobs.iter().map(|job| ((6, 0, None, None), claim_of(*job))));
    let held: Vec<Token> = found.iter().map(|(_, claim)| claim.token).collect();
    let mut may_begin: Vec<Token> = held[..in_process].to_vec();
    found.extend(state.db.claims.iter().map(|claim| ((0, 0, None, None), *claim)));
    let earlier = remembered(state).into_iter().flat_map(|db| &db.claims);
    found.extend(earlier.map(|claim| ((4, 0, None, None), *claim)));
    may_begin.extend(found[held.len()..].iter().map(|(_, claim)| claim.token));
    if found.len() > 1 {
        found.sort_by_cached_key(|(place, claim)| {
            let Claim { token, process, position, attempt, owner, dispatch, .. } = *claim;
            (position, *place, process, attempt, owner, dispatch, uses(state, token), token)
        });
    }

    let mut names = Names::new();
    for (.., claim) in found {
        names.give(claim.token);
    }
    for db in databases(state) {
        db.tokens.next = names.given;
        // A token that no worker holds is equivalent to a new one.
        for numbers in db.tokens.given.iter_mut().chain([&mut db.tokens.again]) {
            numbers.retain(|token| held.contains(token));
            numbers.iter_mut().for_each(|token| *token = names.of(*token));
        }
        let History { begun, unrecorded, .. } = &mut db.history;
        for tokens in [begun, unrecorded] {
            // Of a claim that no worker holds any more nothing can begin.
            tokens.retain(|token| may_begin.contains(token));
            tokens.iter_mut().for_each(|token| *token = names.of(*token));
        }
    }
    for claim in claims(state) {
        claim.token = names.of(claim.token);
    }
    for job in &mut state.jobs {
        job.token = names.of(job.token);
    }
    for response in state.workers.iter_mut().flat_map(|worker| &mut worker.responses) {
        // It may deliver what its worker does not hold any more: nothing will come of that.
        response.delivered.retain(|token| names.of(*token) != GONE);
        response.delivered.iter_mut().for_each(|token| *token = names.of(*token));
    }
}

fn claims(state: &mut State) -> impl Iterator<Item = &mut Claim> {
    let State { db, workers, late, earlier, .. } = state;
    let held = workers.iter_mut().flat_map(|worker| {
        let leases = worker.leases.iter_mut().map(|lease| &mut lease.claim);
        let dispatching = worker.dispatching.iter_mut().map(|dispatching| &mut dispatching.claim);
        leases.chain(dispatching).chain(worker.responses.iter_mut().flat_map(|response| &mut response.claims))
    });
    let remembered = match earlier {
        Earlier::Remembered(db) => Some(&mut db.claims),
        Earlier::Never | Earlier::Any | Earlier::Past => None,
    };
    let late = late.iter_mut().map(|(claim, _)| claim);
    db.claims.iter_mut().chain(held).chain(late).chain(remembered.into_iter().flatten())
}
