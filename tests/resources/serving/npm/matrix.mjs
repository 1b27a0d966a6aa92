// The official npm packages, unmodified, with nothing changed but their base address and key; run by test_npm_sdks.py.
import assert from "node:assert/strict";
import test from "node:test";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const { GONGQI_URL, KEY } = process.env;
const openai = new OpenAI({ baseURL: `${GONGQI_URL}/v1`, apiKey: KEY, maxRetries: 0 });
const anthropic = new Anthropic({ baseURL: GONGQI_URL, apiKey: KEY, maxRetries: 0 });
const messages = [{ role: "user", content: "西安的天气？" }];
const TEXT = "w0 w1 w2 w3 w4 ";
const schema = { type: "object", properties: { city: { type: "string" } } };

test("openai: chat", async () => {
  const answer = await openai.chat.completions.create({ model: "talk", messages });
  assert.equal(answer.choices[0].message.content, TEXT);
  assert.equal(answer.usage.total_tokens, 12);
});

test("openai: a stream with usage", async () => {
  const stream_options = { include_usage: true };
  const stream = await openai.chat.completions.create({ model: "talk", messages, stream: true, stream_options });
  let text = "", usage = null;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta?.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, TEXT);
  assert.equal(usage.completion_tokens, 5);
});

test("openai: tools, whole and as a stream", async () => {
  const tools = [{ type: "function", function: { name: "weather", parameters: schema } }];
  const answer = await openai.chat.completions.create({ model: "talk", messages, tools });
  assert.deepEqual(JSON.parse(answer.choices[0].message.tool_calls[0].function.arguments), { city: "Xi'an" });
  const final = await openai.chat.completions.stream({ model: "talk", messages, tools }).finalChatCompletion();
  assert.equal(final.choices[0].message.tool_calls[0].function.name, "weather");
});

test("openai: a schema for the answer", async () => {
  const response_format = { type: "json_schema", json_schema: { name: "city", schema } };
  const answer = await openai.chat.completions.create({ model: "talk", messages, response_format });
  assert.deepEqual(JSON.parse(answer.choices[0].message.content), { city: "西安" });
});

test("openai: embeddings and models", async () => {
  const made = await openai.embeddings.create({ model: "vectors", input: ["a", "b"], encoding_format: "float" });
  assert.deepEqual(made.data.map((each) => each.embedding), [[0.1, 0.2], [0.1, 0.2]]);
  const listed = [];
  for await (const model of openai.models.list()) listed.push(model.id);
  assert.ok(listed.includes("talk") && listed.includes("vectors"));
  assert.equal((await openai.models.retrieve("talk")).id, "talk");
});

for (const model of ["talk", "gpt"]) {
  test(`openai: responses of ${model}, kept, gone on from and deleted`, async () => {
    const first = await openai.responses.create({ model, input: "one", store: true });
    assert.equal(first.output_text, TEXT);
    const next = { model, input: "two", previous_response_id: first.id };
    const second = await openai.responses.create(next);
    assert.deepEqual([second.output_text, second.store], [TEXT, false]);
    await openai.responses.delete(first.id);
    await assert.rejects(openai.responses.retrieve(first.id), OpenAI.NotFoundError);
    const final = await openai.responses.stream({ model, input: "one" }).finalResponse();
    assert.deepEqual([final.output_text, final.usage.output_tokens], [TEXT, 5]);
  });
}

test("openai: errors", async () => {
  const ask = (model, more = {}) => openai.chat.completions.create({ model, messages, ...more });
  await assert.rejects(ask("nothing"), OpenAI.NotFoundError);
  await assert.rejects(ask("talk", { max_tokens: 100000 }), OpenAI.BadRequestError);
  await assert.rejects(ask("gone"), OpenAI.InternalServerError);
  await assert.rejects(new OpenAI({ baseURL: `${GONGQI_URL}/v1`, apiKey: "x" }).models.list(), OpenAI.AuthenticationError);
  await assert.rejects(async () => {
    for await (const _ of await ask("stumbles", { stream: true }));
  }, /broke off/);
});

for (const model of ["talk", "claude"]) {
  const asked = { model, max_tokens: 50, messages };

  test(`anthropic: a message of ${model}`, async () => {
    const answer = await anthropic.messages.create(asked);
    assert.equal(answer.content[0].text, TEXT);
    assert.deepEqual([answer.stop_reason, answer.usage.input_tokens, answer.usage.output_tokens], ["end_turn", 7, 5]);
  });

  test(`anthropic: a stream of ${model}`, async () => {
    const stream = anthropic.messages.stream(asked);
    let text = "";
    stream.on("text", (piece) => { text += piece; });
    const final = await stream.finalMessage();
    assert.deepEqual([text, final.usage.input_tokens, final.usage.output_tokens], [TEXT, 7, 5]);
  });

  test(`anthropic: a tool of ${model}, whole and as a stream`, async () => {
    const given = { ...asked, tools: [{ name: "weather", input_schema: schema }] };
    for (const answer of [await anthropic.messages.create(given), await anthropic.messages.stream(given).finalMessage()]) {
      assert.equal(answer.stop_reason, "tool_use");
      assert.deepEqual(answer.content[0].input, { city: "Xi'an" });
    }
  });

  test(`anthropic: tokens of a prompt to ${model}`, async () => {
    assert.ok((await anthropic.messages.countTokens({ model, messages })).input_tokens > 0);
  });
}

test("anthropic: models", async () => {
  const listed = [];
  for await (const model of anthropic.models.list()) listed.push(model.id);
  assert.ok(listed.includes("claude"));
  assert.equal((await anthropic.models.retrieve("claude")).display_name, "claude");
});

test("anthropic: errors", async () => {
  const ask = (model) => anthropic.messages.create({ model, max_tokens: 50, messages });
  await assert.rejects(ask("nothing"), Anthropic.NotFoundError);
  await assert.rejects(ask("gone"), Anthropic.InternalServerError);
  const stranger = new Anthropic({ baseURL: GONGQI_URL, apiKey: "x", maxRetries: 0 });
  await assert.rejects(stranger.models.list(), Anthropic.AuthenticationError);
  await assert.rejects(anthropic.messages.stream({ model: "stumbles", max_tokens: 50, messages }).finalMessage(), /broke off/);
});
