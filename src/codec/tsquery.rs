//! `tsquery`: a tree in prefix notation, the right operand first.
//!
//! It has no text direction: `tsqueryout` writes `a & (b & c)` and `(a & b) & c` alike, so the text
//! does not determine the value.

use bytes::BytesMut;

use super::{CodecError, Result, cursor::Cursor, integer::write_u64, tsvector::write_lexeme};

const EXPECTED: CodecError = CodecError::Malformed("a tsquery");

/// `QI_VAL` and `QI_OPR` of `ts_type.h`.
const VALUE: u8 = 1;
const OPERATOR: u8 = 2;

#[derive(Clone, Copy)]
enum Item<'a> {
    Value { weights: u8, prefix: bool, lexeme: &'a [u8] },
    Not,
    And,
    Or,
    Phrase { distance: u16 },
}

impl Item<'_> {
    /// `OP_PRIORITY`; a value never needs parentheses.
    fn priority(self) -> u8 {
        match self {
            Item::Or => 1,
            Item::And => 2,
            Item::Phrase { .. } => 3,
            Item::Not => 4,
            Item::Value { .. } => 5,
        }
    }

    fn operands(self) -> usize {
        match self {
            Item::Value { .. } => 0,
            Item::Not => 1,
            Item::And | Item::Or | Item::Phrase { .. } => 2,
        }
    }
}

/// Reads all items; they form one tree.
fn items(bytes: &[u8]) -> Result<Vec<Item<'_>>> {
    let mut cursor = Cursor::new(bytes);
    let count = cursor.count()?;
    let mut items = Vec::new();
    // How many operands are still to come.
    let mut open = 1usize;
    for _ in 0..count {
        let item = match cursor.u8()? {
            VALUE => {
                let (weights, prefix) = (cursor.u8()?, cursor.u8()?);
                if weights > 0xf || prefix > 1 {
                    return Err(EXPECTED);
                }
                Item::Value { weights, prefix: prefix == 1, lexeme: cursor.c_string()? }
            }
            OPERATOR => match cursor.u8()? {
                1 => Item::Not,
                2 => Item::And,
                3 => Item::Or,
                4 => Item::Phrase { distance: cursor.u16()? },
                _ => return Err(EXPECTED),
            },
            _ => return Err(EXPECTED),
        };
        open = open.checked_sub(1).ok_or(EXPECTED)? + item.operands();
        items.push(item);
        if open == 0 {
            break;
        }
    }
    cursor.finish()?;
    if items.len() == count && (open == 0 || count == 0) { Ok(items) } else { Err(EXPECTED) }
}

pub(super) fn check(bytes: &[u8]) -> Result<()> {
    items(bytes).map(|_| ())
}

/// What is still to be written; a stack of these replaces the recursion of `infix`, so that no
/// query is too deep.
enum Step {
    /// The tree at this item, under a parent of this priority; the right operand of a phrase
    /// operator keeps its parentheses.
    Tree {
        at: usize,
        parent: u8,
        right_of_phrase: bool,
    },
    Operator(usize),
    Close,
}

/// `tsqueryout`
pub(super) fn write_text(bytes: &[u8], out: &mut BytesMut) -> Result<()> {
    let items = items(bytes)?;
    let ends = tree_ends(&items);
    let mut steps = Vec::new();
    if !items.is_empty() {
        steps.push(Step::Tree { at: 0, parent: 0, right_of_phrase: false });
    }
    while let Some(step) = steps.pop() {
        match step {
            Step::Close => out.extend_from_slice(b" )"),
            Step::Operator(at) => match items.get(at) {
                Some(Item::And) => out.extend_from_slice(b" & "),
                Some(Item::Or) => out.extend_from_slice(b" | "),
                Some(Item::Phrase { distance: 1 }) => out.extend_from_slice(b" <-> "),
                Some(Item::Phrase { distance }) => {
                    out.extend_from_slice(b" <");
                    write_u64(u64::from(*distance), out);
                    out.extend_from_slice(b"> ");
                }
                _ => return Err(EXPECTED),
            },
            Step::Tree { at, parent, right_of_phrase } => {
                let item = *items.get(at).ok_or(EXPECTED)?;
                if let Item::Value { weights, prefix, lexeme } = item {
                    write_value(weights, prefix, lexeme, out);
                    continue;
                }
                let is_phrase = matches!(item, Item::Phrase { .. });
                if item.priority() < parent || is_phrase && right_of_phrase {
                    out.extend_from_slice(b"( ");
                    steps.push(Step::Close);
                }
                let tree = |at, right_of_phrase| Step::Tree { at, parent: item.priority(), right_of_phrase };
                if let Item::Not = item {
                    out.extend_from_slice(b"!");
                    steps.push(tree(at + 1, false));
                } else {
                    let left = *ends.get(at + 1).ok_or(EXPECTED)?;
                    steps.push(tree(at + 1, is_phrase));
                    steps.push(Step::Operator(at));
                    steps.push(tree(left, false));
                }
            }
        }
    }
    Ok(())
}

/// For each item, the position after its tree.
fn tree_ends(items: &[Item<'_>]) -> Vec<usize> {
    let mut ends = vec![0; items.len()];
    for (at, item) in items.iter().enumerate().rev() {
        let mut end = at + 1;
        for _ in 0..item.operands() {
            end = ends.get(end).copied().unwrap_or(end);
        }
        if let Some(slot) = ends.get_mut(at) {
            *slot = end;
        }
    }
    ends
}

fn write_value(weights: u8, prefix: bool, lexeme: &[u8], out: &mut BytesMut) {
    write_lexeme(lexeme, out);
    if weights == 0 && !prefix {
        return;
    }
    out.extend_from_slice(b":");
    for (present, letter) in [
        (prefix, b"*"),
        (weights & 8 != 0, b"A"),
        (weights & 4 != 0, b"B"),
        (weights & 2 != 0, b"C"),
        (weights & 1 != 0, b"D"),
    ] {
        if present {
            out.extend_from_slice(letter);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_queries_do_not_recurse() {
        let depth = 200_000;
        let mut wire = (depth as i32 + 1).to_be_bytes().to_vec();
        wire.extend([OPERATOR, 1].repeat(depth));
        wire.extend([VALUE, 0, 0, b'a', 0]);
        let mut out = BytesMut::new();
        write_text(&wire, &mut out).unwrap();
        assert_eq!(&out[depth..], b"'a'");
    }

    #[test]
    fn broken_trees_are_refused() {
        let value = [VALUE, 0, 0, b'a', 0];
        let tree = |count: i32, parts: &[&[u8]]| [&count.to_be_bytes(), parts.concat().as_slice()].concat();
        assert_eq!(check(&tree(0, &[])), Ok(()));
        assert_eq!(check(&tree(1, &[&value])), Ok(()));
        assert_eq!(check(&tree(3, &[&[OPERATOR, 2], &value, &value])), Ok(()));
        for bad in [
            tree(1, &[&[OPERATOR, 1]]),
            tree(2, &[&value, &value]),
            tree(2, &[&[OPERATOR, 2], &value]),
            tree(2, &[&value]),
            tree(1, &[&[OPERATOR, 5]]),
            tree(1, &[&[3]]),
            tree(1, &[&[VALUE, 16, 0, b'a', 0]]),
            tree(-1, &[]),
        ] {
            assert!(check(&bad).is_err(), "{bad:?}");
        }
    }
}
