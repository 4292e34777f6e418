// Hands {name, text} to the browser as a download.
watch('value', () => {
  const v = props.value || {};
  if (!v.name) return;
  const at = URL.createObjectURL(new Blob([v.text], {type: 'text/plain;charset=utf-8'})), a = document.createElement('a');
  a.href = at; a.download = v.name; document.body.append(a); a.click(); a.remove();
  setTimeout(() => URL.revokeObjectURL(at), 10000);
});
