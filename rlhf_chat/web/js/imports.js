// The files that were taken in last; what each of them brought can be sent back.
const paint = () => {
  const rows = (props.value || {}).rows || [], list = document.createElement('ul');
  for (const r of rows) {
    const li = document.createElement('li'), told = document.createElement('span'), back = document.createElement('button');
    told.textContent = r.told; back.type = 'button'; back.textContent = 'Undo the import';
    back.onclick = () => { back.textContent = 'Undoing'; back.disabled = true; trigger('select', {do: 'back', origin: r.origin, value: r.origin, index: 0}); };
    li.append(told, back); list.append(li);
  }
  element.replaceChildren(...(rows.length ? [list] : []));
};
const draw = () => window.rlhfStay(element, paint);
watch('value', draw); draw();
