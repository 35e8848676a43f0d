"""A small operating system of objects: tasks with queues, packets and states; attribute access, method calls, dynamic dispatch.

The kind of program that the benchmark known as Richards is, with a design of its own.
"""


class Packet:
    def __init__(self, owner, kind):
        self.next = None
        self.owner = owner
        self.kind = kind
        self.data = [0] * 4
        self.sum = 0


class Task:
    def __init__(self, system, name, priority):
        self.system = system
        self.name = name
        self.priority = priority
        self.queue = None
        self.steps = 0
        self.waiting = True
        system.tasks.append(self)
        system.tasks.sort(key=lambda task: -task.priority)

    def give(self, packet):
        packet.next = None
        self.waiting = False
        if self.queue is None:
            self.queue = packet
            return
        last = self.queue
        while last.next is not None:
            last = last.next
        last.next = packet

    def take(self):
        packet = self.queue
        if packet is not None:
            self.queue = packet.next
            packet.next = None
        self.waiting = self.queue is None
        return packet

    def step(self):
        raise NotImplementedError


class Producer(Task):
    """Sends what comes back to it on to one of two workers, as a small generator of random bits says."""

    def __init__(self, system, name, priority, budget):
        super().__init__(system, name, priority)
        self.budget = budget
        self.bits = 0x2545

    def step(self):
        packet = self.take()
        if packet is None or self.budget == 0:
            self.waiting = True
            return
        self.budget -= 1
        self.bits = self.bits >> 1 ^ (0xD008 if self.bits & 1 else 0)
        worker = self.system.named["worker a" if self.bits & 2 else "worker b"]
        packet.kind = self.bits & 1
        worker.give(packet)


class Worker(Task):
    def __init__(self, system, name, priority, factor):
        super().__init__(system, name, priority)
        self.factor = factor

    def step(self):
        packet = self.take()
        if packet is None:
            return
        for i, value in enumerate(packet.data):
            packet.data[i] = (value * self.factor + i) % 1009
        self.system.named["device" if packet.kind else "collector"].give(packet)


class Device(Task):
    """Keeps two packets before it gives the first of them on."""

    def __init__(self, system, name, priority):
        super().__init__(system, name, priority)
        self.held = None

    def step(self):
        packet = self.take()
        if packet is None:
            return
        if self.held is not None:
            self.system.named["collector"].give(self.held)
        self.held = packet


class Collector(Task):
    total = 0

    def step(self):
        packet = self.take()
        if packet is None:
            return
        packet.sum += sum(packet.data)
        self.total = (self.total * 31 + packet.sum) % 1000003
        packet.owner.give(packet)


class System:
    def __init__(self):
        self.tasks = []
        Producer(self, "producer", 10, 6000)
        Worker(self, "worker a", 20, 7)
        Worker(self, "worker b", 20, 11)
        Device(self, "device", 30)
        Collector(self, "collector", 40)
        self.named = {task.name: task for task in self.tasks}
        producer = self.named["producer"]
        for _ in range(6):
            producer.give(Packet(producer, 0))

    def run(self):
        running = True
        while running:
            running = False
            for task in self.tasks:
                if not task.waiting:
                    task.steps += 1
                    task.step()
                    running = True
                    break
        return [task.steps for task in self.tasks], self.named["collector"].total


def run():
    steps, total = System().run()
    return f"{steps} {total}"
