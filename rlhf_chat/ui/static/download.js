// Hands a file to the browser as a download. It comes in parts {name, text, id, part, next}: the next one is
// asked for until none is left, so that no answer of the server is large.
let parts = [], id = '';
watch('value', () => {
  const v = props.value || {};
  if (!v.name) return;
  if (v.id !== id) { parts = []; id = v.id; }
  if (v.part !== parts.length) return;
  parts.push(v.text);
  if (v.next) {
    const {form, what, next, count} = v;
    return trigger('select', {form, what, next, count, id, part: parts.length, value: form, index: 0});
  }
  const at = URL.createObjectURL(new Blob(parts, {type: 'text/plain;charset=utf-8'})), a = document.createElement('a');
  a.href = at; a.download = v.name; document.body.append(a); a.click(); a.remove(); parts = [];
  setTimeout(() => URL.revokeObjectURL(at), 10000);
});
