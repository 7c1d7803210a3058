//! The store against a plain model: seeded histories of changes, every open snapshot compared with
//! the map that was true at its version.

use std::{
    collections::BTreeMap,
    ops::{Bound, ControlFlow},
    sync::Arc,
};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use super::*;
use crate::types::{
    AttNum, Collation, CollationOrder, ColumnSchema, Datum, IndexKind, IndexSchema, PgType, ReplicaIdentity,
    TableSchema, TypeKind, TypeOid,
};

type ModelRow = (i32, Option<i64>, Option<String>);
/// Rows by key, with a counter so that a table without a key may hold equal rows.
type Model = BTreeMap<(i32, u32), ModelRow>;

fn column(name: &str, kind: TypeKind, attnum: i16) -> ColumnSchema {
    let order = if matches!(kind, TypeKind::Text) { CollationOrder::Bytes } else { CollationOrder::None };
    ColumnSchema {
        name: name.into(),
        attnum: AttNum(attnum),
        pg_type: Arc::new(PgType { oid: TypeOid(0), name: String::new(), len: -1, kind }),
        typmod: -1,
        not_null: attnum == 1,
        collation: Collation { oid: 0, order },
    }
}

fn schema(oid: u32, keyed: bool) -> Arc<TableSchema> {
    let index = |columns: &[usize], kind| IndexSchema {
        name: format!("{kind:?}"),
        columns: columns.to_vec(),
        unique: false,
        kind,
    };
    let identity = if keyed { vec![0] } else { vec![0, 1, 2] };
    Arc::new(TableSchema {
        oid: TableOid(oid),
        schema: "public".into(),
        name: format!("t{oid}"),
        columns: vec![
            column("id", TypeKind::Int4, 1),
            column("n", TypeKind::Int8, 2),
            column("s", TypeKind::Text, 3),
        ],
        unmirrored: Vec::new(),
        identity: if keyed { ReplicaIdentity::Key(vec![0]) } else { ReplicaIdentity::Full },
        indexes: vec![
            index(&identity, IndexKind::Identity),
            index(&[0], IndexKind::Ordered),
            index(&[1], IndexKind::Ordered),
            index(&[2, 1], IndexKind::Ordered),
            index(&[2], IndexKind::Hash),
        ],
        partitioned: false,
    })
}

fn datums(row: &ModelRow) -> [Datum<'_>; 3] {
    [
        Datum::Int4(row.0),
        row.1.map_or(Datum::Null, Datum::Int8),
        row.2.as_ref().map_or(Datum::Null, |s| Datum::Bytes(s.as_bytes())),
    ]
}

fn model_row(row: Row<'_>) -> ModelRow {
    let Datum::Int4(id) = row.datum(0) else { panic!("id is {:?}", row.datum(0)) };
    let n = match row.datum(1) {
        Datum::Null => None,
        Datum::Int8(n) => Some(n),
        other => panic!("n is {other:?}"),
    };
    let s = match row.datum(2) {
        Datum::Null => None,
        Datum::Bytes(s) => Some(String::from_utf8(s.to_vec()).expect("text that we stored")),
        other => panic!("s is {other:?}"),
    };
    (id, n, s)
}

fn scan(view: &TableView) -> Vec<ModelRow> {
    let chunks = view.chunks();
    let mut rows: Vec<ModelRow> =
        chunks.iter().flat_map(|c| c.rows(view.version()).map(model_row).collect::<Vec<_>>()).collect();
    rows.sort();
    rows
}

fn collected(visit: impl FnOnce(&mut dyn FnMut(RowRef) -> ControlFlow<()>)) -> Vec<ModelRow> {
    let mut rows = Vec::new();
    visit(&mut |row| {
        rows.push(model_row(row.row()));
        ControlFlow::Continue(())
    });
    rows
}

/// NULLs last, as PostgreSQL sorts.
fn nulls_last<T: Ord + Clone>(value: &Option<T>) -> (bool, Option<T>) {
    (value.is_none(), value.clone())
}

fn check(view: &TableView, model: &Model, rng: &mut StdRng) {
    let mut expected: Vec<ModelRow> = model.values().cloned().collect();
    expected.sort();
    assert_eq!(scan(view), expected, "scan");
    for _ in 0..4 {
        let id = rng.random_range(0..60);
        let mut found = collected(|visit| view.lookup(1, &[Datum::Int4(id)], visit));
        found.sort();
        let want: Vec<ModelRow> = expected.iter().filter(|r| r.0 == id).cloned().collect();
        assert_eq!(found, want, "look-up of id {id}");

        let (a, b) = (rng.random_range(-5..25i64), rng.random_range(-5..25i64));
        let mut found = collected(|visit| {
            view.range(2, &[], Bound::Included(Datum::Int8(a)), Bound::Excluded(Datum::Int8(b)), false, visit)
        });
        assert!(found.is_sorted_by_key(|r| r.1), "ascending");
        found.sort();
        let want: Vec<ModelRow> =
            expected.iter().filter(|r| r.1.is_some_and(|n| a <= n && n < b)).cloned().collect();
        assert_eq!(found, want, "range {a}..{b}");

        let text = format!("v{}", rng.random_range(0..8));
        let mut found = collected(|visit| view.lookup(4, &[Datum::Bytes(text.as_bytes())], visit));
        found.sort();
        let mut by_prefix = collected(|visit| {
            view.range(
                3,
                &[Datum::Bytes(text.as_bytes())],
                Bound::Excluded(Datum::Int8(a)),
                Bound::Unbounded,
                true,
                visit,
            )
        });
        assert!(by_prefix.is_sorted_by(|x, y| x.1 >= y.1), "descending");
        by_prefix.sort();
        let want: Vec<ModelRow> =
            expected.iter().filter(|r| r.2.as_deref() == Some(&text)).cloned().collect();
        assert_eq!(found, want, "look-up of {text}");
        let want: Vec<ModelRow> = want.into_iter().filter(|r| r.1.is_some_and(|n| n > a)).collect();
        assert_eq!(by_prefix, want, "{text} and n > {a}");
    }
    let all = collected(|visit| view.range(2, &[], Bound::Unbounded, Bound::Unbounded, false, visit));
    assert_eq!(all.len(), expected.len());
    assert!(all.is_sorted_by_key(|r| nulls_last(&r.1)), "NULLs last");
    let all = collected(|visit| view.range(3, &[], Bound::Unbounded, Bound::Unbounded, false, visit));
    assert!(all.is_sorted_by_key(|r| (nulls_last(&r.2), nulls_last(&r.1))), "two columns in order");
    assert_eq!(all.len(), expected.len());
}

fn random_row(rng: &mut StdRng, id: i32) -> ModelRow {
    let n = rng.random_bool(0.8).then(|| rng.random_range(0..20));
    let s = rng.random_bool(0.8).then(|| format!("v{}", rng.random_range(0..8)));
    (id, n, s)
}

fn run_history(seed: u64, commits: usize, changes_max: usize, keyed: bool) {
    let mut rng = StdRng::seed_from_u64(seed);
    let (store, mut writer) = Store::new();
    let oid = TableOid(1);
    let schema = schema(1, keyed);
    let mut model = Model::new();
    let mut counter = 0;
    let mut builder = ChunkBuilder::new(&schema);
    for id in 0..20 {
        let row = random_row(&mut rng, id);
        builder.push(&datums(&row));
        model.insert((id, 0), row);
    }
    writer.load(TableImage::build(Arc::clone(&schema), vec![builder.finish()]));
    writer.set_live(oid, true);
    writer.publish(Lsn(1));
    let mut open: Vec<(Snapshot, Model)> = vec![(store.snapshot(), model.clone())];
    for commit in 0..commits {
        for _ in 0..rng.random_range(1..=changes_max) {
            let id = rng.random_range(0..60);
            let keys: Vec<(i32, u32)> = model.keys().copied().collect();
            match rng.random_range(0..100) {
                0..35 => {
                    if keyed && model.contains_key(&(id, 0)) {
                        continue;
                    }
                    let row = random_row(&mut rng, id);
                    writer.insert(oid, &datums(&row)).expect("insert");
                    counter += 1;
                    model.insert((id, if keyed { 0 } else { counter }), row);
                }
                35..99 => {
                    let Some(key) = keys.choose(&mut rng) else { continue };
                    let old = model.remove(key).expect("a key of the model");
                    let identity: Vec<Datum<'_>> =
                        if keyed { vec![Datum::Int4(old.0)] } else { datums(&old).to_vec() };
                    let found = writer.find(oid, &identity).expect("the row is there");
                    if rng.random_bool(0.3) {
                        writer.delete(oid, &found).expect("delete");
                        continue;
                    }
                    let free = !keyed || !model.contains_key(&(id, 0));
                    let new_id = if rng.random_bool(0.2) && free { id } else { old.0 };
                    let row = random_row(&mut rng, new_id);
                    writer.update(oid, &found, &datums(&row)).expect("update");
                    counter += 1;
                    model.insert((new_id, if keyed { 0 } else { counter }), row);
                }
                _ => {
                    writer.truncate(oid).expect("truncate");
                    model.clear();
                }
            }
        }
        writer.publish(Lsn(commit as u64 + 2));
        if rng.random_bool(0.3) {
            open.push((store.snapshot(), model.clone()));
        }
        if open.len() > 6 || rng.random_bool(0.2) {
            let at = rng.random_range(0..open.len().max(1));
            if at < open.len() {
                open.swap_remove(at);
            }
        }
        if commit % 7 == 0 {
            let now = store.snapshot();
            check(&now.table(oid).expect("live"), &model, &mut rng);
            assert_eq!(writer.size(oid).rows, model.len() as u64);
            for (snapshot, model) in &open {
                check(&snapshot.table(oid).expect("live"), model, &mut rng);
            }
        }
    }
    drop(open);
    writer.advance(Lsn(1 << 40));
    let now = store.snapshot();
    check(&now.table(oid).expect("live"), &model, &mut rng);
}

#[test]
fn every_snapshot_equals_the_model_at_its_version() {
    let base: u64 = rand::rng().random();
    for i in 0..12 {
        let seed = base.wrapping_add(i);
        println!("seed {seed}");
        run_history(seed, 300, 12, i % 2 == 0);
    }
}

/// Large commits, so that tails are sealed and chunks compacted while snapshots are open.
#[test]
fn sealing_and_compaction_change_no_snapshot() {
    let seed: u64 = rand::rng().random();
    println!("seed {seed}");
    run_history(seed, 40, 4000, true);
    run_history(seed ^ 1, 12, 4000, false);
}

#[test]
fn one_of_equal_rows_is_deleted() {
    let (store, mut writer) = Store::new();
    let oid = TableOid(1);
    writer.load(TableImage::build(schema(1, false), Vec::new()));
    writer.set_live(oid, true);
    let row = (1, None, Some("x".to_string()));
    for _ in 0..3 {
        writer.insert(oid, &datums(&row)).expect("insert");
    }
    let found = writer.find(oid, &datums(&row)).expect("found");
    writer.delete(oid, &found).expect("delete");
    writer.publish(Lsn(1));
    assert_eq!(scan(&store.snapshot().table(oid).expect("live")), vec![row.clone(), row]);
}

#[test]
fn all_tables_change_at_once() {
    let (store, mut writer) = Store::new();
    for oid in [1, 2] {
        writer.load(TableImage::build(schema(oid, true), Vec::new()));
        writer.set_live(TableOid(oid), true);
    }
    writer.publish(Lsn(1));
    let before = store.snapshot();
    let row = (1, Some(1), None);
    writer.insert(TableOid(1), &datums(&row)).expect("insert");
    let between = store.snapshot();
    writer.insert(TableOid(2), &datums(&row)).expect("insert");
    writer.publish(Lsn(2));
    let after = store.snapshot();
    for oid in [TableOid(1), TableOid(2)] {
        assert!(scan(&before.table(oid).expect("live")).is_empty());
        assert!(scan(&between.table(oid).expect("live")).is_empty());
        assert_eq!(scan(&after.table(oid).expect("live")).len(), 1);
    }
    assert_eq!((before.lsn(), between.lsn(), after.lsn()), (Lsn(1), Lsn(1), Lsn(2)));
}

#[test]
fn readers_beside_a_writer_see_whole_commits() {
    let (store, mut writer) = Store::new();
    let oid = TableOid(1);
    writer.load(TableImage::build(schema(1, true), Vec::new()));
    writer.set_live(oid, true);
    for id in 0..100 {
        writer.insert(oid, &datums(&(id, Some(0), None))).expect("insert");
    }
    writer.publish(Lsn(1));
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = Lsn::ZERO;
                while !done.load(Ordering::Relaxed) {
                    let snapshot = store.snapshot();
                    assert!(snapshot.lsn() >= last, "never back in time");
                    last = snapshot.lsn();
                    let view = snapshot.table(oid).expect("live");
                    let sum: i64 = scan(&view).iter().map(|r| r.1.unwrap_or(0)).sum();
                    assert_eq!(sum, 0, "a transfer is seen whole or not at all");
                    let by_index =
                        collected(|v| view.range(1, &[], Bound::Unbounded, Bound::Unbounded, false, v));
                    assert_eq!(by_index.len(), 100);
                    let sum: i64 = by_index.iter().map(|r| r.1.unwrap_or(0)).sum();
                    assert_eq!(sum, 0, "the same through an index");
                    for id in [3, 50] {
                        let found = collected(|v| view.lookup(0, &[Datum::Int4(id)], v));
                        assert_eq!(found.len(), 1, "one row of id {id}");
                    }
                }
            });
        }
        let mut rng = StdRng::seed_from_u64(7);
        for commit in 0..20_000u64 {
            for (id, by) in [(rng.random_range(0..50), 1), (rng.random_range(50..100), -1)] {
                let old = writer.find(oid, &[Datum::Int4(id)]).expect("found");
                let Datum::Int8(n) = old.datum(1) else { panic!("not null") };
                writer
                    .update(oid, &old, &[Datum::Int4(id), Datum::Int8(n + by), Datum::Null])
                    .expect("update");
            }
            writer.publish(Lsn(commit + 2));
        }
        done.store(true, Ordering::Relaxed);
    });
}
