//! Cells of one group in a tree that finds the best with enough room without looking at the others: each node knows
//! the lowest score below it and the most room.

use diego::cell::Resources;

/// What a comparison needs of a cell; of several cells, the best of each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    /// Score against instances and against tasks, without what depends on the work.
    pub lrp: i64,
    pub task: i64,
    pub free: Resources,
}

impl Node {
    const NOBODY: Node = Node {
        lrp: i64::MAX,
        task: i64::MAX,
        free: Resources { memory_mb: 0, disk_mb: 0, containers: 0 },
    };

    pub fn has_room(&self, wanted: &Resources) -> bool {
        wanted.memory_mb <= self.free.memory_mb
            && wanted.disk_mb <= self.free.disk_mb
            && wanted.containers <= self.free.containers
    }

    fn either(&self, other: &Node) -> Node {
        Node {
            lrp: self.lrp.min(other.lrp),
            task: self.task.min(other.task),
            free: Resources {
                memory_mb: self.free.memory_mb.max(other.free.memory_mb),
                disk_mb: self.free.disk_mb.max(other.free.disk_mb),
                containers: self.free.containers.max(other.free.containers),
            },
        }
    }
}

/// Compared in this order, so that equal cells are taken in the order of their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Best {
    pub score: i64,
    pub group: u32,
    pub seat: u32,
}

/// What is looked for.
pub(crate) struct Search<'a, Least, Exact> {
    pub wanted: &'a Resources,
    pub score: fn(&Node) -> i64,
    /// What the work adds to the score of any cell of the group at least.
    pub least: Least,
    /// What it adds to the score of the cell at this seat.
    pub exact: Exact,
}

#[derive(Clone, Debug)]
pub(crate) struct Tree {
    /// Room for so many cells; a power of two.
    seats: usize,
    /// The root is 1, the children of `n` are `2n` and `2n + 1`, the leaves come last.
    nodes: Vec<Node>,
}

impl Tree {
    pub fn new() -> Tree {
        Tree { seats: 1, nodes: vec![Node::NOBODY; 2] }
    }

    pub fn set(&mut self, seat: u32, node: Node) {
        while seat as usize >= self.seats {
            self.grow();
        }
        let mut at = self.seats + seat as usize;
        self.nodes[at] = node;
        while at > 1 {
            at /= 2;
            self.nodes[at] = self.nodes[2 * at].either(&self.nodes[2 * at + 1]);
        }
    }

    pub fn clear(&mut self, seat: u32) {
        self.set(seat, Node::NOBODY);
    }

    fn grow(&mut self) {
        let leaves = self.nodes.split_off(self.seats);
        self.seats *= 2;
        self.nodes = vec![Node::NOBODY; 2 * self.seats];
        self.nodes[self.seats..][..leaves.len()].copy_from_slice(&leaves);
        for at in (1..self.seats).rev() {
            self.nodes[at] = self.nodes[2 * at].either(&self.nodes[2 * at + 1]);
        }
    }

    /// Puts the best of this group into `best` if it is better. `looked` counts the nodes that were looked at.
    pub fn search<Least: Fn() -> i64, Exact: Fn(u32) -> i64>(
        &self,
        group: u32,
        search: &Search<Least, Exact>,
        best: &mut Option<Best>,
        looked: &mut u64,
    ) {
        let least = (search.least)();
        // One sibling waits per level at most.
        let mut waiting = [0_usize; 64];
        let mut count = 1;
        waiting[0] = 1;
        while count > 0 {
            count -= 1;
            let mut at = waiting[count];
            loop {
                *looked += 1;
                let node = &self.nodes[at];
                if !node.has_room(search.wanted) {
                    break;
                }
                let bound = (search.score)(node).saturating_add(least);
                let first = self.first_seat(at);
                if best.is_some_and(|best| Best { score: bound, group, seat: first } >= best) {
                    break;
                }
                if at >= self.seats {
                    let score = (search.score)(node).saturating_add((search.exact)(first));
                    let found = Best { score, group, seat: first };
                    if best.is_none_or(|best| found < best) {
                        *best = Some(found);
                    }
                    break;
                }
                let (left, right) = (2 * at, 2 * at + 1);
                let right_first =
                    (search.score)(&self.nodes[right]) < (search.score)(&self.nodes[left]);
                let (next, later) = if right_first { (right, left) } else { (left, right) };
                waiting[count] = later;
                count += 1;
                at = next;
            }
        }
    }

    fn first_seat(&self, at: usize) -> u32 {
        let level = at.ilog2();
        let below = self.seats.ilog2() - level;
        ((at - (1 << level)) << below) as u32
    }
}
