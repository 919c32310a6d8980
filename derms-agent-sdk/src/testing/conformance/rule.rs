//! The rules: the sentences of the adapter's contract that a test can decide.

/// One rule of the contract of [`DerAdapter`](crate::DerAdapter); its text is
/// [`name`](Self::name).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "`name` is the sentence of each")]
pub enum Rule {
    NamesTheKind,
    ReadsFiniteValues,
    AbsentIsNotZero,
    AgeIsTold,
    SignAndUnit,
    EnergyAgreesWithSign,
    TakesTheWholeRange,
    ReadOnlyRefuses,
    AnswerIsTrue,
    RepeatChangesNothing,
    RampIsKept,
    DefaultIsReached,
    DefaultRepeats,
    DroppedCallDisturbsNothing,
    ReadsBesideCommands,
    FailureIsTold,
    ErrorsSayWhat,
    EventsSayWhat,
    EventsAreFew,
    AnswersInTime,
    NothingBlocks,
    NothingPanics,
}

impl Rule {
    /// Every rule, in the order of a report.
    pub const ALL: &'static [Self] = &[
        Self::NamesTheKind,
        Self::ReadsFiniteValues,
        Self::AbsentIsNotZero,
        Self::AgeIsTold,
        Self::SignAndUnit,
        Self::EnergyAgreesWithSign,
        Self::TakesTheWholeRange,
        Self::ReadOnlyRefuses,
        Self::AnswerIsTrue,
        Self::RepeatChangesNothing,
        Self::RampIsKept,
        Self::DefaultIsReached,
        Self::DefaultRepeats,
        Self::DroppedCallDisturbsNothing,
        Self::ReadsBesideCommands,
        Self::FailureIsTold,
        Self::ErrorsSayWhat,
        Self::EventsSayWhat,
        Self::EventsAreFew,
        Self::AnswersInTime,
        Self::NothingBlocks,
        Self::NothingPanics,
    ];

    /// The rule, as a sentence.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NamesTheKind => "describe names the asset's kind",
            Self::ReadsFiniteValues => "read returns finite values in their range",
            Self::AbsentIsNotZero => "what was not measured is absent, never 0",
            Self::AgeIsTold => "a cached value carries its age",
            Self::SignAndUnit => "power is MW, positive towards the grid",
            Self::EnergyAgreesWithSign => "state of charge and energy agree with the sign",
            Self::TakesTheWholeRange => "every power inside the limits is accepted",
            Self::ReadOnlyRefuses => "a device that takes no orders refuses them as unsupported",
            Self::AnswerIsTrue => "the answer to apply is what the device does",
            Self::RepeatChangesNothing => "a repeated setpoint changes nothing",
            Self::RampIsKept => "power moves no faster than the setpoint's ramp",
            Self::DefaultIsReached => "go_to_default ends at the default, with no setpoint left",
            Self::DefaultRepeats => "go_to_default may be repeated",
            Self::DroppedCallDisturbsNothing => "a dropped call does not disturb the next one",
            Self::ReadsBesideCommands => "read works while a command is under way",
            Self::FailureIsTold => "a device that does not answer gives an error and no value",
            Self::ErrorsSayWhat => "an error says what failed",
            Self::EventsSayWhat => "an alarm has a severity, a text, and a code of its own",
            Self::EventsAreFew => "an event is raised when something happens, not again and again",
            Self::AnswersInTime => "every call answers within the time limit",
            Self::NothingBlocks => "no call blocks the thread",
            Self::NothingPanics => "no call panics",
        }
    }

    /// What to change in an adapter that breaks it.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::NamesTheKind => {
                "return the kind of the asset from describe, or correct `type` in assets.yaml"
            }
            Self::ReadsFiniteValues => {
                "map the device's \"not available\" codes, NaN and overflow to None; percent is \
                 0 to 100, available power a magnitude"
            }
            Self::AbsentIsNotZero => {
                "leave fields that the device does not measure at None (..Measurements::default())"
            }
            Self::AgeIsTold => {
                "give a cached reading its age with Reading::aged; if the device is that slow, \
                 raise Kit::settling"
            }
            Self::SignAndUnit => {
                "convert in one place, in both directions: Power::from_kw and Power::kw for \
                 registers in kW, a minus where the device counts charging as positive"
            }
            Self::EnergyAgreesWithSign => {
                "positive power is discharge: negate the power in read and in apply, or swap \
                 energy_in and energy_out"
            }
            Self::TakesTheWholeRange => {
                "accept every power from min_mw to max_mw, or narrow the limits in assets.yaml to \
                 what the device can do; put the device into remote mode before the test"
            }
            Self::ReadOnlyRefuses => {
                "return AdapterError::unsupported from apply, Ok from go_to_default, and \
                 Availability::ReadOnly with each reading"
            }
            Self::AnswerIsTrue => {
                "wait for the device's answer and return the power it will keep to (Applied), \
                 or an error; never what was asked or written"
            }
            Self::RepeatChangesNothing => {
                "write the absolute power each time; keep no toggles, steps or sums between calls"
            }
            Self::RampIsKept => {
                "hand ramp_mw_per_min to the device, or refuse a setpoint with a ramp with \
                 AdapterError::unsupported"
            }
            Self::DefaultIsReached => {
                "write the default power to the device (forgetting the setpoint does not move \
                 it), and leave setpoint_mw out of read from then on"
            }
            Self::DefaultRepeats => {
                "answer Ok when the device is at its default already; the agent repeats the call"
            }
            Self::DroppedCallDisturbsNothing => {
                "keep no half-done state over an await: drop the connection or drain its answer \
                 before the next exchange, take locks with guards, and wait for started writes"
            }
            Self::ReadsBesideCommands => {
                "take locks in one order, never one twice, and wait for nothing inside them that \
                 the other call must do"
            }
            Self::FailureIsTold => {
                "give up after a limit of your own below the agent's and return \
                 AdapterError::timeout or ::device; never the last or a made-up value"
            }
            Self::ErrorsSayWhat => {
                "give AdapterError a text an operator can act on, such as the device's own words"
            }
            Self::EventsSayWhat => {
                "give each alarm a code that stays the same (lower case with underscores), other \
                 than those of the same reading, and a text for people"
            }
            Self::EventsAreFew => {
                "raise what has changed; what lasts belongs into each reading (Reading::alarm), \
                 with the same code: the agent tells when it begins and when it is over"
            }
            Self::AnswersInTime => {
                "give each exchange with the device a time limit of its own, well below the \
                 agent's adapter timeout"
            }
            Self::NothingBlocks => {
                "use tokio's I/O and time, or move blocking work to tokio::task::spawn_blocking"
            }
            Self::NothingPanics => "return an AdapterError; check lengths and values before use",
        }
    }
}
