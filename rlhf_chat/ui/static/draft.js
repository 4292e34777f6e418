// What is written: the draft of the message, the text that is copied, the id of a sending, the direction.

// The draft survives a reload and a restart; the server says when it has been sent.
const DRAFT = 'rlhf-chat:draft';
const put = (field, text) => { field.value = text; field.dispatchEvent(new Event('input', {bubbles: true})); };
window.rlhfDraft = {sent: () => setTimeout(() => { const b = box(); store(DRAFT, b ? b.value : ''); }, 60)};
document.addEventListener('input', e => { if (e.target === box()) store(DRAFT, e.target.value); });
whenReady(() => { const kept = stored(DRAFT); if (kept && !box().value) put(box(), kept); });

// What was written, from what markdown_escape.py made of it for the page; also for Gradio's copy button.
const MATHS = ['$', '$', '\\(', '\\)', '$$', '$$', '\\[', '\\]'];
window.rlhfRaw = text => text.replace(/&#x(0[0-9a-f]{4});|[\ue0f0-\ue0f7]/g, (mark, code) => !code ? MATHS[mark.charCodeAt(0) - 0xe0f0] : code === '00020' ? '' : String.fromCharCode(parseInt(code, 16)));
if (navigator.clipboard) {
  const write = navigator.clipboard.writeText.bind(navigator.clipboard);
  navigator.clipboard.writeText = text => write(window.rlhfRaw(text));
}
// Each line of a box runs the way its own words do.
document.addEventListener('focusin', e => { if (e.target.matches('textarea, input[type=text], input:not([type])')) e.target.dir = 'auto'; });

// The same message sent twice within a second is one message.
let last = {of: '', id: '', at: 0};
window.rlhfSendId = inputs => {
  const of = JSON.stringify(inputs), now = Date.now();
  if (of !== last.of || now - last.at > 1000) last = {of, id: crypto.randomUUID(), at: now};
  return last.id;
};
