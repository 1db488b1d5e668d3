# frozen_string_literal: true

# Four steps of one external system and one of none. Each records how many steps run at the same time: of its system, of
# its task, and in total.
class Crowd < TaskerCore::Workflow
  BESIDE = Queue.new
  # The longest wait of a step for the others of its group, in seconds.
  PATIENCE = 30
  @running = Hash.new(0)
  @most = Hash.new(0)
  @meeting = {}
  @mutex = Mutex.new
  @arrival = ConditionVariable.new

  class << self
    # Resets the records.
    # @param meeting [Hash{Symbol => Integer}] for each group, the number of steps that wait until so many are running
    def meet(**meeting)
      @mutex.synchronize { (@meeting = meeting) && @most.clear && BESIDE.clear }
    end

    # Returns the block's value. Pushes to BESIDE [group, running steps including this one] for each group.
    def among(*groups)
      @mutex.synchronize do
        groups.each { |group| enter(group) }
        @arrival.broadcast
        ending = now + PATIENCE
        @arrival.wait(@mutex, ending - now) until met?(groups) || now >= ending
      end
      yield
    ensure
      @mutex.synchronize { groups.each { |group| @running[group] -= 1 } }
    end

    private

    def enter(group)
      BESIDE << [group, @running[group] += 1]
      @most[group] = [@most[group], @running[group]].max
    end

    def met?(groups) = groups.all? { |group| @most[group] >= @meeting.fetch(group, 0) }

    def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)
  end

  4.times { |number| step :"call_#{number}", system: :bank }
  step :other

  4.times do |number|
    define_method(:"call_#{number}") do |context|
      self.class.among(:bank, :all, context.task_id) { sleep(0.05) && { at: context.system.base_url } }
    end
  end

  def other(context) = self.class.among(:all, context.task_id) { {} }
end
