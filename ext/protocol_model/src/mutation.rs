//! Faults that can be put into the protocol: the checker must find each of them, or it would not find ours.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// Whoever has run a step may finish it, whatever has become of his claim.
    FinishWithoutClaim,
    /// A finish ends the claim on its step, whoever holds it.
    FinishByStep,
    /// The token is made of step and attempt, which a claim that is given back does not change.
    TokenPerAttempt,
    /// The token is made of step and process, which may claim the step again.
    TokenPerProcess,
    /// The token alone is the right to finish.
    TokenAlone,
    /// All that names a claim is the right to finish, whichever process has it.
    FinishForAnyProcess,
    /// The ids of processes come from a sequence.
    ProcessIdGivenAgain,
    /// A process that registers anew takes over what it knows the tokens of.
    RegisterByToken,
    /// A claim that arrives takes the place of a lease with the same token.
    LeaseIsReplaced,
    /// Sweep takes a leap of the database's clock for the silence of all.
    SweepTrustsClock,
    /// A stale outcome records nothing, but its children lose a parent.
    StaleOutcomeSettles,
    /// A lost attempt is not counted.
    LostAttemptIsFree,
    /// A failed attempt is not counted.
    FailedAttemptIsFree,
    /// A child that is handed over is also left for everybody.
    HandOverAndLeave,
    /// A child becomes ready with the first of its parents.
    ReadyWithAnyParent,
    /// Only a completed step can end its task.
    FailureEndsNoTask,
    /// A heartbeat gives nothing back.
    HeartbeatKeepsUnknownClaims,
    /// A heartbeat gives back what its list did not name, and records nothing. The process may have begun it since the list
    /// was written.
    HeartbeatRecordsNothing,
    /// A process that leaves gives back what it has begun, and records nothing.
    LeaveRecordsNothing,
    /// Cancelling cuts attempts off, and records nothing.
    CancelRecordsNothing,
    /// Sweep finds dead processes in the list of processes only.
    SweepOverlooksMissingProcesses,
    /// Cancelling takes ready and waiting rows away, and leaves the claims.
    CancelLeavesClaims,
    /// Cancelling ends the task, and leaves what waits.
    CancelLeavesRows,
    /// A step is ended by hand although it is claimed.
    OverrideIgnoresClaims,
    /// A worker that could not give a claim back neither tries again nor forgets it.
    ReturnIsForgotten,
}
