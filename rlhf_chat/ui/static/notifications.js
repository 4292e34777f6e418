// Told by the system when a version came while the page was hidden: only after it was asked for on Learning.
const NOTIFY = 'rlhf-chat:notify';
window.rlhfNotifies = () => Boolean(stored(NOTIFY)) && 'Notification' in window && Notification.permission === 'granted';
window.rlhfNotify = async wanted => {
  const may = wanted && 'Notification' in window && await Notification.requestPermission() === 'granted';
  store(NOTIFY, may ? '1' : '');
  return [may, {text: wanted && !may ? text('notify_refused') : '', tone: 'bad'}];
};
