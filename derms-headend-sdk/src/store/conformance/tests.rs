use super::super::MemoryStore;
use super::super::faulty::{Fault, FaultyStore};
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_memory_store_keeps_the_contract() {
    check(async || MemoryStore::new()).await.unwrap();
}

#[tokio::test]
async fn a_store_without_a_fault_keeps_the_contract() {
    check(async || FaultyStore::new(Fault::None)).await.unwrap();
}

#[tokio::test]
async fn each_fault_is_found_by_the_sentence_that_it_breaks() {
    let faults = [
        (Fault::EpochsRepeat, "epochs of an agent strictly increase"),
        (
            Fault::EndsTwice,
            "an unknown or ended session is left as it is",
        ),
        (
            Fault::NothingAbandoned,
            "`abandon_sessions` ends what has not ended",
        ),
        (
            Fault::SamplesTwice,
            "what is below a log's cursor is settled",
        ),
        (Fault::GapsLost, "declared gaps are kept"),
        (
            Fault::LatestByReceipt,
            "the latest measurement is the last measured",
        ),
        (
            Fault::CursorCounts,
            "measurements come in pages, newest first",
        ),
        (Fault::AnyCursor, "a cursor that is none of this list"),
        (
            Fault::OldestFirst,
            "measurements come in pages, newest first",
        ),
        (Fault::LooseBuckets, "buckets are aligned to 1970"),
        (
            Fault::KeyApart,
            "orders with one key at the same time are one dispatch",
        ),
        (
            Fault::RevisionsRepeat,
            "revisions of an asset strictly increase",
        ),
        (
            Fault::SentSuperseded,
            "a new order supersedes what is pending",
        ),
        (
            Fault::AllSuperseded,
            "an order that waits steps back only for what is in force",
        ),
        (
            Fault::SentExpires,
            "the headend never expires what was sent",
        ),
        (
            Fault::SentTwice,
            "an order is sent again by a later session alone",
        ),
        (Fault::ChildrenLost, "a site order is its children"),
        (Fault::RaiseForgotten, "a counter never goes back"),
        (
            Fault::SharesBlind,
            "shares are added only to what nobody has touched since",
        ),
        (
            Fault::ReplacedForgotten,
            "a share whose place is taken does not count for its site order",
        ),
        (
            Fault::CancelForgotten,
            "a cancel ends what was never sent, for good",
        ),
        (
            Fault::CancelEndsSent,
            "a cancel of what was sent takes the next revision",
        ),
        (
            Fault::ReleaseRepeats,
            "a cancel of what was sent takes the next revision",
        ),
        (Fault::AskedTwice, "who asked first for an end is kept"),
        (
            Fault::WaitingStays,
            "what waits moves above the release of an older order",
        ),
        (
            Fault::NewerReleased,
            "there is no release as long as a newer order",
        ),
        (
            Fault::OneShareCancelled,
            "a cancel of a site order is one of each share",
        ),
        (
            Fault::RefusalsBelieved,
            "a release that is refused as stale says nothing",
        ),
        (Fault::ReportsTwice, "a repeated report changes nothing"),
        (
            Fault::ContradictionsHidden,
            "a contradiction is told and has no effect",
        ),
        (
            Fault::AnyAgentReports,
            "an agent's report touches no order of another agent",
        ),
        (
            Fault::AllInDoubt,
            "the end of a session puts in doubt what it carried",
        ),
        (
            Fault::DroppedForgotten,
            "what an agent drops from a session that goes on is in doubt",
        ),
        (
            Fault::DroppedOfAll,
            "what an agent drops from a session that goes on is in doubt",
        ),
        (
            Fault::NoneInDoubt,
            "the end of a session puts in doubt what it carried",
        ),
        (
            Fault::EndedHolds,
            "what holds is what has not ended, with the highest revisions",
        ),
        (
            Fault::FirstWordCounts,
            "a limit is read as it was kept last",
        ),
        (
            Fault::KeysForgotten,
            "a key means one limit or stop, for as long as that is kept",
        ),
        (
            Fault::StopsForgotten,
            "what holds is what has not ended, with the highest revisions",
        ),
        (Fault::EventsTwice, "an event of a report is stored once"),
        (
            Fault::LastWordCounts,
            "the first acknowledgement of an event stays",
        ),
        (Fault::LeastForgotten, "events are found by what they are"),
        (
            Fault::AuditChanges,
            "a record of the audit trail is read as it was given",
        ),
        (
            Fault::NothingPruned,
            "what is older than its retention is forgotten",
        ),
        (
            Fault::AllPruned,
            "what is not older than its retention stays",
        ),
    ];
    for (fault, sentence) in faults {
        let broken = check(async || FaultyStore::new(fault)).await.unwrap_err();
        let found = broken
            .sentences
            .iter()
            .any(|(found, _)| found.text().starts_with(sentence));
        assert!(
            found,
            "{fault:?} was not found by `{sentence}`, but {broken}"
        );
        // Not by chance: most of the contract still holds.
        let all = Sentence::all().len();
        assert!(
            broken.sentences.len() * 3 < all,
            "{fault:?} breaks {broken}"
        );
    }
}

#[tokio::test]
async fn the_report_names_the_broken_sentences_and_what_was_found() {
    let broken = check(async || FaultyStore::new(Fault::RaiseForgotten))
        .await
        .unwrap_err();
    let text = broken.to_string();
    assert!(
        text.starts_with("the store breaks its contract:\n- "),
        "{text}"
    );
    assert!(
        text.contains("- a counter never goes back: the counter: found [0], wanted [40]"),
        "{text}"
    );
    assert_eq!(format!("{broken:?}"), text);
}
