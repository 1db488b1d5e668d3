//! Faults that can be built into the protocol. The checker must find each of them, to prove that it would find a real
//! one.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// A process that has run a step may finish it without a claim.
    FinishWithoutClaim,
    /// A finish ends the claim on its step, whichever process holds it.
    FinishByStep,
    /// The token consists of step and attempt, which stay the same after a release.
    TokenPerAttempt,
    /// The token consists of step and process, which may claim the step again.
    TokenPerProcess,
    /// The token alone is enough to finish.
    TokenAlone,
    /// The claim's key is enough to finish, for any process.
    FinishForAnyProcess,
    /// The ids of processes come from a sequence.
    ProcessIdGivenAgain,
    /// A process that registers again takes over every claim whose token it knows.
    RegisterByToken,
    /// An arriving claim replaces a lease with the same token.
    LeaseIsReplaced,
    /// A sweep takes processes for silent after a jump of the database's clock.
    SweepTrustsClock,
    /// A stale outcome records nothing, but counts as a done parent for its children.
    StaleOutcomeSettles,
    /// A lost attempt is not counted.
    LostAttemptIsFree,
    /// A failed attempt is not counted.
    FailedAttemptIsFree,
    /// A child that is handed over also becomes ready for any process.
    HandOverAndLeave,
    /// A child becomes ready as soon as one parent is done.
    ReadyWithAnyParent,
    /// Only a completed step can end its task.
    FailureEndsNoTask,
    /// A heartbeat releases nothing.
    HeartbeatKeepsUnknownClaims,
    /// A heartbeat releases the claims that its list does not name, without a record. The process may have started them
    /// after it wrote the list.
    HeartbeatRecordsNothing,
    /// A process that leaves releases the claims that it has started, without a record.
    LeaveRecordsNothing,
    /// A cancellation removes claims without a record.
    CancelRecordsNothing,
    /// A sweep overlooks claims whose process is no longer registered.
    SweepOverlooksMissingProcesses,
    /// A cancellation removes ready and waiting rows, but leaves the claims.
    CancelLeavesClaims,
    /// A cancellation ends the task, but leaves its ready and waiting rows.
    CancelLeavesRows,
    /// An operator ends a step although it is claimed.
    OverrideIgnoresClaims,
    /// A worker that could not release a claim neither retries nor forgets it.
    ReturnIsForgotten,
    /// A job starts its step under whichever claim a dispatcher has, as if the token did not matter.
    AdoptByStep,
    /// A job that runs a second time takes the claim from the process that has started it.
    JobStartsTwice,
    /// An adopted claim still belongs to the process that dispatched it.
    AdoptedStaysDispatchers,
    /// An adopted claim still counts as enqueued, so that it outlives the process that runs the job.
    AdoptedStaysEnqueued,
    /// A sweep makes an enqueued step ready when its dispatcher dies, but leaves the claim for the job.
    EnqueuedDiesWithDispatcher,
    /// A sweep returns no claim whose job has not started.
    UnstartedClaimsStay,
    /// A claim whose job has not started ends as a lost attempt.
    ReturnSpendsAttempt,
    /// A confirmation inserts the claim again if it has been returned.
    ConfirmRevivesClaim,
    /// Jobs that have started are not counted as in flight.
    StartedJobsAreNotCounted,
    /// A process whose queue interrupts a handler releases the claim without a record.
    InterruptRecordsNothing,
}
