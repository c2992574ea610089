// The rows of Node's promises, where they have something of the kind: a line per row, NAME and the CPU time of an
// operation in nanoseconds, with what the collector and the compiler do in other threads.
//
// A promise's callbacks run in a microtask, not in the call that resolves it. So operations are done in batches, each of
// which waits for its last promise: what going to the loop of microtasks and back costs is shared by a hundred.
import { AsyncLocalStorage } from 'node:async_hooks';

const BATCH = 100;
let total = 0;

function check(right, what) {
    if (right) return;
    console.error(`wrong: ${what}`);
    process.exit(1);
}

function addUp(value) {
    total += value;
    return value;
}

function pending() {
    let resolve;
    const promise = new Promise((r) => { resolve = r; });
    return { promise, resolve };
}

function create(operations) {
    const promises = []; // unless somebody keeps them, the compiler leaves them out
    for (let i = 0; i < operations; i++) promises[i % BATCH] = new Promise(() => {});
    check(new Set(promises).size === BATCH && promises[0] instanceof Promise, 'new ones');
}

async function awaitReady(operations) {
    for (let i = 0; i < operations; i++) total += await 2;
    check(total === 2 * operations, 'the sum of what was awaited');
}

async function createAddFire(operations) {
    let last;
    for (let done = 0; done < operations; done += BATCH) {
        for (let i = 0; i < BATCH; i++) {
            let resolve;
            last = new Promise((r) => { resolve = r; }).then(addUp);
            resolve(2);
        }
        await last;
    }
    check(total === 2 * operations, 'the sum of what callbacks got');
}

async function twoCallbacks(operations) {
    let last;
    for (let done = 0; done < operations; done += BATCH) {
        for (let i = 0; i < BATCH; i++) {
            let resolve;
            last = new Promise((r) => { resolve = r; }).then(addUp).then(addUp);
            resolve(2);
        }
        await last;
    }
    check(total === 4 * operations, 'the sum of what two callbacks got');
}

const storage = new AsyncLocalStorage();

function addUpInContext(value) {
    total += value * storage.getStore();
}

async function otherContext(operations) {
    const resolves = [];
    let last;
    for (let done = 0; done < operations; done += BATCH) {
        storage.run(1, () => {
            for (let i = 0; i < BATCH; i++)
                last = new Promise((r) => { resolves[i] = r; }).then(addUpInContext);
        });
        for (let i = 0; i < BATCH; i++) resolves[i](2);
        await last;
    }
    check(total === 2 * operations, 'the sum of what callbacks got in their own context');
}

async function chainLink(operations) {
    const inners = [];
    let last;
    for (let done = 0; done < operations; done += BATCH) {
        for (let i = 0; i < BATCH; i++) {
            const outer = pending(), inner = pending();
            last = outer.promise.then(() => inner.promise).then(addUp);
            outer.resolve(null);
            inners[i] = inner.resolve;
        }
        await null; // now they all wait for the inner ones
        for (let i = 0; i < BATCH; i++) inners[i](2);
        await last;
    }
    check(total === 2 * operations, 'the sum of what inner ones brought');
}

async function gather10(operations) {
    const resolves = [];
    let last;
    for (let done = 0; done < operations; done += BATCH) {
        for (let i = 0; i < BATCH; i++) {
            const promises = [];
            for (let k = 0; k < 10; k++) promises.push(new Promise((r) => { resolves[k] = r; }));
            last = Promise.all(promises).then((values) => addUp(values.reduce((sum, value) => sum + value)));
            for (let k = 0; k < 10; k++) resolves[k](2);
        }
        await last;
    }
    check(total === 20 * operations, 'the sum of what was gathered');
}

// Twisted's and weft's pipeline, each taking what the one before it returned, is a chain of promises.
function callbacks(size) {
    return async (operations) => {
        for (let done = 0; done < operations; done += size) {
            const { promise, resolve } = pending();
            let last = promise;
            for (let i = 0; i < size; i++) last = last.then(addUp);
            resolve(2);
            await last;
        }
        check(total === 2 * operations, 'the sum of what many callbacks got');
    };
}

function links(size) {
    return async (operations) => {
        for (let done = 0; done < operations; done += size) {
            const resolves = [], chain = [];
            for (let i = 0; i < size; i++)
                chain[i] = new Promise((r) => { resolves[i] = r; }).then(() => chain[i + 1]);
            chain[size] = new Promise((r) => { resolves[size] = r; });
            for (let i = 0; i < size; i++) resolves[i](null);
            await null;
            resolves[size](2);
            addUp(await chain[0]);
        }
        check(total === 2 * (operations / size), 'what came out of a chain');
    };
}

function cpuNs() {
    const { user, system } = process.cpuUsage();
    return (user + system) * 1000;
}

async function measure(run, operations, warmUp = operations / 10) {
    total = 0;
    await run(warmUp);
    total = 0;
    const start = cpuNs();
    await run(operations);
    return (cpuNs() - start) / operations;
}

const fired = await measure(createAddFire, 400000);
console.log('create', await measure(create, 500000));
console.log('create_add_fire_free', Math.min(fired, await measure(awaitReady, 200000)));
console.log('one_more_callback', await measure(twoCallbacks, 400000) - fired);
console.log('other_context', await measure(otherContext, 50000));
console.log('chain_link', await measure(chainLink, 50000));
console.log('gather_10', await measure(gather10, 20000));
for (const size of [1000, 10000, 100000, 1000000]) {
    const operations = Math.max(200000, size);
    console.log(`callbacks_${size}`, await measure(callbacks(size), operations, size === 1000 ? size : 0));
    console.log(`links_${size}`, await measure(links(size), operations, size === 1000 ? size : 0));
}
