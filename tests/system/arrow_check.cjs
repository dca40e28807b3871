// Writes a table to a server and reads it back, both as Arrow streams, with the Apache Arrow library for JavaScript.
//     NODE_PATH=.../node_modules node arrow_check.cjs URL
const arrow = require('apache-arrow');
const assert = require('node:assert');
const url = process.argv[2];
const type = 'application/vnd.apache.arrow.stream';
const rows = 30000;
const start = 1767225600000;

const range = (make) => Array.from({length: rows}, (_, i) => make(i));
const host = range((i) => `host-${i % 50}`);
const region = range((i) => (i % 50 % 7 === 0 ? null : `région ${i % 50 % 3}`));
const count = range((i) => BigInt(i) * 1000000007n);
const level = range((i) => (i % 3 === 0 ? null : i / 8));
const on = range((i) => (i % 5 === 0 ? null : i % 2 === 0));
const note = range((i) => (i % 4 === 0 ? `note ${i}` : null));

function written() {
    const texts = new arrow.Dictionary(new arrow.Utf8(), new arrow.Int16());
    const columns = {
        time: arrow.vectorFromArray(range((i) => start + i), new arrow.TimestampMillisecond()),
        host: arrow.vectorFromArray(host, texts),
        region: arrow.vectorFromArray(region, new arrow.Utf8()),
        count: arrow.vectorFromArray(count, new arrow.Int64()),
        level: arrow.vectorFromArray(level, new arrow.Float64()),
        on: arrow.vectorFromArray(on, new arrow.Bool()),
        note: arrow.vectorFromArray(note, new arrow.Utf8()),
    };
    const table = new arrow.Table(columns);
    const fields = table.schema.fields.map((field) =>
        field.name === 'note' ? field.clone({metadata: new Map([['imvdb.role', 'field']])}) : field);
    const schema = new arrow.Schema(fields, new Map([['imvdb.label', 'machine']]));
    return arrow.tableToIPC(new arrow.Table(schema, table.batches.map((b) => new arrow.RecordBatch(schema, b.data))), 'stream');
}

async function main() {
    const answer = await fetch(`${url}/write`, {method: 'POST', headers: {'Content-Type': type}, body: written()});
    assert.strictEqual(answer.status, 204, await answer.text());
    const query = 'MATCH (m:machine) SAMPLES OF m AS s RETURN s.ts AS t, m.host AS host, m.region AS region, ' +
        's.count AS count, s.level AS level, s.on AS on, s.note AS note ORDER BY t';
    const read = await fetch(`${url}/query`, {method: 'POST', headers: {Accept: type}, body: query});
    assert.strictEqual(read.headers.get('content-type'), type);
    const table = arrow.tableFromIPC(new Uint8Array(await read.arrayBuffer()));
    assert.strictEqual(table.schema.fields.map((f) => `${f.name} ${f.type}`).join(', '),
        't Timestamp<NANOSECOND, UTC>, host Utf8, region Utf8, count Int64, level Float64, on Bool, note Utf8');
    assert.strictEqual(table.numRows, rows);
    const column = (name) => Array.from(table.getChild(name));
    const raw = table.getChild('t').data.flatMap((d) => Array.from(d.values.subarray(0, d.length)));
    assert.deepStrictEqual(raw, range((i) => BigInt(start + i) * 1000000n));
    assert.deepStrictEqual(column('host'), host);
    assert.deepStrictEqual(column('region'), region);
    assert.deepStrictEqual(column('count'), count);
    assert.deepStrictEqual(column('level'), level);
    assert.deepStrictEqual(column('on'), on);
    assert.deepStrictEqual(column('note'), note);
    console.log(`${rows} rows are the same`);
}

main().catch((error) => {
    console.error(error);
    process.exit(1);
});
