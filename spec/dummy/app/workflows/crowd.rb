# frozen_string_literal: true

# Four steps of one external system and one of none, each of which notes how many others run beside it: of its system, of
# its task, and in all.
class Crowd < TaskerCore::Workflow
  BESIDE = Queue.new
  # How long a step waits for those that are to run beside it.
  PATIENCE = 30
  @running = Hash.new(0)
  @most = Hash.new(0)
  @meeting = {}
  @mutex = Mutex.new
  @arrival = ConditionVariable.new

  class << self
    # Begins anew.
    # @param meeting [Hash{Symbol => Integer}] of a group as many wait for each other, however long each takes to begin
    def meet(**meeting)
      @mutex.synchronize { (@meeting = meeting) && @most.clear && BESIDE.clear }
    end

    # Answers the block's value; BESIDE gets [group, how many run] for each group, this one included.
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
