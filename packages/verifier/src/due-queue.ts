/** Values by the time they are due, soonest first; equal times in the order they came. A binary heap. */
export type DueQueue<T> = {
  readonly push: (due: number, value: T) => void;
  readonly peek: () => { readonly due: number; readonly value: T } | undefined;
  readonly pop: () => { readonly due: number; readonly value: T } | undefined;
  readonly size: () => number;
};

export function dueQueue<T>(): DueQueue<T> {
  type Item = { readonly due: number; readonly order: number; readonly value: T };
  const heap: Item[] = [];
  let order = 0;
  const before = (a: Item, b: Item) => a.due < b.due || (a.due === b.due && a.order < b.order);

  function settleUp(item: Item): void {
    let at = heap.length;
    heap.push(item);
    while (at > 0) {
      const parentAt = (at - 1) >> 1;
      const parent = heap[parentAt];
      if (parent === undefined || !before(item, parent)) break;
      heap[at] = parent;
      at = parentAt;
    }
    heap[at] = item;
  }

  function settleDown(item: Item): void {
    let at = 0;
    for (;;) {
      let childAt = 2 * at + 1;
      let child = heap[childAt];
      if (child === undefined) break;
      const right = heap[childAt + 1];
      if (right !== undefined && before(right, child)) {
        childAt++;
        child = right;
      }
      if (!before(child, item)) break;
      heap[at] = child;
      at = childAt;
    }
    heap[at] = item;
  }

  return {
    push: (due, value) => settleUp({ due, order: order++, value }),
    peek: () => heap[0],
    pop() {
      const first = heap[0];
      const last = heap.pop();
      if (first !== undefined && last !== undefined && heap.length > 0) settleDown(last);
      return first;
    },
    size: () => heap.length,
  };
}
