setTimeout(() => location.reload(), 2000);
